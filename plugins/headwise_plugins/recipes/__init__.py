"""Models and how they are trained: one module a recipe."""
