"""Holds runs against each other: heads matched, roles that return."""
