"""Claims about attention heads, each decided by measurement."""
