"""The analyzers, renderers, recipes and engines that headwise brings: one module a plugin."""
