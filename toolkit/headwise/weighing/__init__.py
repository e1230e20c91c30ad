"""Weighs what was measured: chance, intervals, roles, claims, what a head is worth."""
