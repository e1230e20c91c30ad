"""Sections of the report, drawn with seaborn: one module a renderer."""
