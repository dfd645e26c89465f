"""Why every study is compared by Welch's test: what four methods cover in simulations and show of our runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from labbook.page import claims
from labbook.page.evidence import load, runs_of
from labbook.studies import stats, study
from scipy.special import digamma, polygamma, stdtrit


def coverage(levels: int, seeds: int, scatter: float, repeats: int = 4000, seed: int = 0) -> pd.DataFrame:
    """How often each method's 95 % interval of a difference has the truth, 0, in a simulated study, and its half width.

    One row a method: ``covered``, a fraction, and ``half_width``, the median in deviations of an ordinary run. The
    difference is that of the first level, which scatters ``scatter`` times as much as all others, and the second.
    """
    scale = np.array([scatter, *[1.0] * (levels - 1)])[:, None]
    runs = np.random.default_rng(seed).normal(0, scale, (repeats, levels, seeds))
    difference = runs[:, 0].mean(axis=1) - runs[:, 1].mean(axis=1)
    variance, freedom = runs.var(axis=2, ddof=1), seeds - 1
    pooled = np.broadcast_to(variance.mean(axis=1, keepdims=True), variance.shape)
    moderated, prior = moderate(variance, freedom)
    apart = (runs[:, 0] - runs[:, 1]).var(axis=1, ddof=1)
    shrunk = np.minimum(prior + freedom, levels * freedom)
    errors = {
        "paired": (apart / seeds, freedom),
        "pooled": (pooled[:, :2].sum(axis=1) / seeds, levels * freedom),
        "moderated": (moderated[:, :2].sum(axis=1) / seeds, np.minimum(_satterthwaite(moderated, shrunk),
                                                                       levels * freedom)),
        "welch": (variance[:, :2].sum(axis=1) / seeds, _satterthwaite(variance, freedom)),
    }
    reach = {method: stdtrit(of_method, 0.975) * np.sqrt(error) for method, (error, of_method) in errors.items()}
    return pd.DataFrame({"covered": {method: np.mean(np.abs(difference) <= half) for method, half in reach.items()},
                         "half_width": {method: np.median(half) for method, half in reach.items()}})


def _satterthwaite(variance: np.ndarray, freedom: np.ndarray | int) -> np.ndarray:
    """Degrees of freedom of the first two levels' difference."""
    first, second = variance[:, 0], variance[:, 1]
    return (first + second) ** 2 * freedom / (first**2 + second**2)


def moderate(variance: np.ndarray, freedom: int) -> tuple[np.ndarray, np.ndarray]:
    """Shrink the variances of a study's levels, shape (studies, levels), towards a common one (Smyth 2004, limma).

    Returns them and the prior's degrees of freedom, infinite where levels scatter no more unlike than by chance.
    """
    logs = np.log(variance) - digamma(freedom / 2) + np.log(freedom / 2)
    spread = logs.var(axis=1, ddof=1) - polygamma(1, freedom / 2)
    # The inverse of the trigamma function by Newton's method, as limma has it.
    half = 0.5 + 1 / np.maximum(spread, 1e-8)
    for _ in range(50):
        trigamma = polygamma(1, half)
        half += trigamma * (1 - trigamma / np.maximum(spread, 1e-8)) / polygamma(2, half)
    prior = np.where(spread > 0, 2 * half, np.inf)
    common = np.exp(logs.mean(axis=1) + digamma(half) - np.log(half))
    pooled = variance.mean(axis=1)
    with np.errstate(invalid="ignore"):
        shrunk = (prior[:, None] * common[:, None] + freedom * variance) / (prior[:, None] + freedom)
    return np.where(np.isinf(prior)[:, None], pooled[:, None], shrunk), prior


def conclusions() -> pd.DataFrame:
    """Of every study how many planned comparisons of final validation accuracy are shown, paired by seed and by Welch.

    One row a study that has runs: ``seeds`` (fewest and most), ``comparisons``, ``paired``, ``welch``, ``both``; all
    corrected by Holm.
    """
    rows = []
    for name in study.names():
        found = runs_of(name)
        values = claims.finals(found)
        if not values:
            continue
        pairs = claims.pairs_of(load(name))
        by_method = {
            "paired": stats.holm([_paired(*(values.get(level) for level in pair)) for pair in pairs]),
            "welch": stats.holm([one.p for one in stats.differences(values, pairs)]),
        }
        shown = {method: np.array(p) < 1 - stats.CONFIDENCE for method, p in by_method.items()}
        rows.append({"study": name, "seeds": f"{min(found.seed_counts)} to {max(found.seed_counts)}",
                     "comparisons": len(pairs), **{method: int(held.sum()) for method, held in shown.items()},
                     "both": int((shown["paired"] & shown["welch"]).sum())})
    return pd.DataFrame(rows)


def _paired(a: pd.Series | None, b: pd.Series | None) -> float:
    """p of the paired t test over the seeds that both have; NaN for fewer than two."""
    from scipy.special import stdtr

    apart = (a - b).dropna() if a is not None and b is not None else pd.Series(dtype=float)
    if len(apart) < 2:
        return float("nan")
    error = float(apart.std(ddof=1)) / len(apart) ** 0.5
    return 1.0 if error < stats.TIE else 2 * float(stdtr(len(apart) - 1, -abs(float(apart.mean())) / error))
