"""Draws: figures, fonts, and the sections of a page."""
