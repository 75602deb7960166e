"""Numbers as a person reads them on pages of assets and in results of checks.

Belongs here: that rounding. Not here: what is rounded, or figures of a report in words.
"""

from __future__ import annotations

import math


def rounded(value: float) -> float | str:
    """Four significant digits, or one decimal from 1,000 on; a word where the number is not finite, since JSON has none.

    >>> rounded(0.123456), rounded(12345.678), rounded(float("inf"))
    (0.1235, 12345.7, 'inf')
    """
    if not math.isfinite(value):
        return str(value)
    return float(f"{value:.4g}") if abs(value) < 1000 else round(value, 1)
