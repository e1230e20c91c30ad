"""How numbers are written for readers, in the terminal and on the page alike."""

from __future__ import annotations

import math

DECIMALS = {"share": 2, "distance": 2, "nats": 2, "tokens": 1}
"""Unit -> digits after the point; a unit that is not known gets two."""


def format_interval(low: float, high: float, unit: str) -> str:
    """Return an interval as text, without its unit, with as many digits as tell its ends apart (at most three more).

    >>> format_interval(0.25, 0.35, "share"), format_interval(0.2912, 0.2937, "share")
    ('0.25 to 0.35', '0.291 to 0.294')
    """
    for more in range(4):
        ends = format_value(low, unit, more), format_value(high, unit, more)
        if ends[0] != ends[1]:
            break
    return " to ".join(ends)


def format_value(value: float, unit: str, more: int = 0) -> str:
    """Return a number as text, without its unit: a small one keeps two more digits, so that it is not shown as 0.

    `more` asks for so many digits beyond the usual.

    >>> format_value(0.3512, "share"), format_value(0.0042, "share"), format_value(15.75, "tokens")
    ('0.35', '0.0042', '15.8')
    >>> format_value(-0.0, "nats"), format_value(float("nan"), "share")
    ('0.00', '–')
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else f"{value}".replace("inf", "∞")
    decimals = DECIMALS.get(unit, 2) + more
    if 0 < abs(value) < 10**-decimals:
        decimals += 2
    return f"{value:z.{decimals}f}"
