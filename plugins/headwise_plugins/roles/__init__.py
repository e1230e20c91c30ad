"""Rule sets that turn evidence into roles."""
