"""How figures and names read, in a sentence and in the cell of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labbook.studies.stats import Estimate


def p_text(p: float) -> str:
    """A p value as a reader expects it: three decimals, ``< 0.001`` below."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def plus_minus(estimate: Estimate, digits: int = 2) -> str:
    """A mean and, from two values on, the half width of its interval, for a table that has n in a column of its own.

    Values that are all the same are a tie of what was counted, and no certainty: no interval is shown.
    """
    spread = estimate.n > 1 and not estimate.is_tie
    return f"{estimate.mean:.{digits}f}" + (f" ± {estimate.half_width:.{digits}f}" if spread else "")


def with_n(estimate: Estimate, unit: str, digits: int = 2) -> str:
    """A mean, its interval and n in a sentence: ``84.4 ± 0.7 % (n = 3)``."""
    return f"{plus_minus(estimate, digits)} {unit} (n = {estimate.n})"


def signed(difference: Estimate, digits: int = 2) -> str:
    """A difference with its sign and an interval as :func:`plus_minus` has one; – where there is no pair."""
    return ("+" if difference.mean >= 0 else "") + plus_minus(difference, digits) if difference.n else "–"


def seconds(value: float) -> str:
    """Seconds as a table shows them, few to a tenth; – where they were not measured."""
    return "–" if math.isnan(value) else f"{value:.{1 if value < 100 else 0}f}"


def listed(names: Sequence[str]) -> str:
    """Names in a row, as a sentence has them: between names that have commas themselves another comma would be lost."""
    return (" and " if any("," in name for name in names) else ", ").join(names)
