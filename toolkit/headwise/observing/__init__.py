"""Sees and changes a model's attention while it runs."""
