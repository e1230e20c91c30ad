"""Runs analyzers over blocks of attention and keeps their sums."""
