"""How well a recipe explains the losses that the original prints: distance in shape, and likelihood.

A *recipe* is a configuration without its seed. Its runs are compared with one column of the original's table, epoch by
epoch, on the logarithm of the losses. The model of a row: were the original another seed of the recipe, its
logarithm would follow Student's t about the mean of our seeds, with their scatter in that row. Runs of another width
get two allowances: an offset that all rows share, and a scatter that widths alone cause, measured on recipes that
were run at both. Limits: rows are treated as independent and then discounted for the correlation of neighbouring ones;
with three seeds the tails are heavy; and a likelihood ranks the recipes that were tried, no others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from labbook.lab import Config
from labbook.studies.results import StudyResults
from scipy import stats

LOSSES = ("train_loss", "val_loss")
INSIDE = 0.95
OPTIMIZERS = {"adam": "Adam", "sgd": "SGD", "muon": "Muon"}
DECAYS = {"step": "steps", "exponential": "exponential decay", "linear": "linear decay"}


@dataclass(frozen=True)
class Recipe:
    """A configuration without its seed, in words, and the logarithms of its losses: one frame a loss, seed by epoch."""

    name: str
    config: Config
    logs: Mapping[str, pd.DataFrame] = field(repr=False)

    @property
    def width(self) -> int:
        """The channels of the first convolution."""
        return self.config.width

    @property
    def seeds(self) -> int:
        """How many runs there are."""
        return len(self.logs[LOSSES[0]])

    @property
    def kind(self) -> str:
        """``constant``, ``decay`` or ``warm-up``: what the rate does over the run."""
        if self.config.schedule == "constant":
            return "constant"
        warms_up = self.config.schedule in ("warmup_cosine", "warmup_constant", "one_cycle")
        return "warm-up" if warms_up and self.config.warmup_epochs else "decay"


def words(config: Config) -> str:
    """A recipe's name in words: optimizer, rate, what is unusual about it, what the rate does."""
    parts = [f"{OPTIMIZERS.get(config.optimizer, config.optimizer)} {config.learning_rate:g}"]
    if config.optimizer == "sgd" and not config.momentum:
        parts.append("no momentum")
    if config.batch_size != type(config)().batch_size:
        parts.append(f"batch {config.batch_size}")
    if config.weight_decay:
        parts.append(f"weight decay {config.weight_decay:g}")
    epochs = f"{config.warmup_epochs:g} epoch" + ("s" if config.warmup_epochs != 1 else "")
    parts.append({
        "constant": "constant", "one_cycle": "one cycle", "warmup_constant": f"constant after {epochs}",
        "warmup_cosine": f"warm-up {config.warmup_epochs:g}, cosine" if config.warmup_epochs else "cosine decay",
    }.get(config.schedule) or DECAYS.get(config.schedule, config.schedule))
    return ", ".join(parts)


def recipes(studies: Iterable[StudyResults]) -> list[Recipe]:
    """The recipes of some studies, each once: a run that several studies have counts once. Diverged runs are left out.
    """
    found: dict[Config, dict[int, pd.DataFrame]] = {}
    for results in studies:
        for level in results.levels:
            runs = found.setdefault(results.config_of(level).with_(seed=0), {})
            of_level = results.history[results.history["level"] == level]
            for seed, history in of_level.groupby("seed"):
                runs.setdefault(int(seed), history.set_index("epoch"))
    return [Recipe(words(config), config, {
        column: pd.DataFrame({seed: logarithm(history[column]) for seed, history in sorted(runs.items())}).T
        for column in LOSSES}) for config, runs in found.items() if runs]


def logarithm(losses: pd.Series) -> pd.Series:
    """The natural logarithm of losses in nats, which are positive."""
    return np.log(losses.astype(float))


def printed(history: pd.DataFrame) -> dict[str, pd.Series]:
    """The logarithms of one column of the original's table, by epoch: one series a loss."""
    return {column: logarithm(history.set_index("epoch")[column]) for column in LOSSES}


def shape_distance(logs: pd.DataFrame, theirs: pd.Series) -> pd.Series:
    """The standard deviation over the epochs of ln ours − ln original, by seed: 0 for the same curve up to a factor."""
    return (logs - theirs).dropna(axis="columns").std(axis="columns", ddof=0)


def across_widths(narrow: Sequence[Recipe], wide: Sequence[Recipe], column: str) -> float:
    """The scatter that another width alone gives the logarithm of a loss: by recipes that both widths have.

    The root mean square of their distances in shape, mean against mean; NaN where they share none.
    """
    by_config = {one.config.with_(width=1): one for one in wide}
    distances = [shape_distance(pd.DataFrame([one.logs[column].mean()]), other.logs[column].mean()).iloc[0]
                 for one in narrow if (other := by_config.get(one.config.with_(width=1)))]
    return float(np.sqrt(np.mean(np.square(distances)))) if distances else math.nan


@dataclass(frozen=True)
class Prediction:
    """What the seeds of a recipe foretell of another one's log loss: Student's t, by epoch."""

    mean: pd.Series
    scale: pd.Series
    freedom: int

    def interval(self, part: float = INSIDE) -> tuple[pd.Series, pd.Series]:
        """The ends of the prediction interval, of the logarithm."""
        reach = stats.t.ppf((1 + part) / 2, self.freedom) * self.scale
        return self.mean - reach, self.mean + reach

    def inside(self, theirs: pd.Series) -> pd.Series:
        """Whether each row lies in the 95 % prediction interval, by epoch."""
        low, high = self.interval()
        theirs = theirs.reindex(self.mean.index)
        return (low <= theirs) & (theirs <= high)

    def log_likelihood(self, theirs: pd.Series, free_offset: bool) -> float:
        """The logarithm of the rows' probability density, summed over the epochs that both have.

        ``free_offset``: up to a factor of the loss that all rows share, the most favourable one. NaN with one seed.
        """
        away = (theirs - self.mean).dropna()
        scale = self.scale[away.index]
        if not len(away) or not self.freedom or (scale <= 0).any():
            return math.nan
        offsets = np.linspace(away.min(), away.max(), 401) if free_offset else np.zeros(1)
        standard = (away.to_numpy() - offsets[:, None]) / scale.to_numpy()
        return float((stats.t.logpdf(standard, self.freedom) - np.log(scale.to_numpy())).sum(axis=1).max())


def predict(logs: pd.DataFrame, discrepancy: float = 0.0) -> Prediction:
    """Foretell the log loss of another seed from those of a recipe's seeds.

    ``discrepancy``: the standard deviation to allow for beside the seeds', such as :func:`across_widths`.
    """
    n = len(logs)
    scatter = logs.var(ddof=1) * (1 + 1 / n) if n > 1 else logs.iloc[0] * math.nan
    return Prediction(logs.mean(), np.sqrt(scatter + discrepancy**2), n - 1)


def correlation(some: Iterable[Recipe], column: str) -> float:
    """How much neighbouring epochs of a run deviate alike from the mean of its recipe's seeds, from 0 to 1.

    The lag-one autocorrelation of the deviations in units of each row's scatter, over all recipes with two runs.
    """
    together = alone = 0.0
    for one in some:
        logs = one.logs[column]
        if len(logs) > 1 and logs.shape[1] > 1:
            away = ((logs - logs.mean()) / logs.std(ddof=1)).fillna(0).to_numpy()
            together += float((away[:, 1:] * away[:, :-1]).mean()) * len(away)
            alone += float((away**2).mean()) * len(away)
    return max(0.0, together / alone) if alone else math.nan


def independent_share(rho: float) -> float:
    """What part of the rows counts as independent, by the correlation of neighbours: (1 − ρ) / (1 + ρ)."""
    return (1 - rho) / (1 + rho)


def line_up(
    suspects: Sequence[Recipe], theirs: Mapping[str, pd.Series], discrepancy: Mapping[str, float],
    share: Mapping[str, float],
) -> pd.DataFrame:
    """Compare recipes of one width with a column of the original's table: one row a recipe, the most probable first.

    Columns: ``recipe``, ``kind``, ``seeds``, ``distance`` (of the training loss, mean over seeds), ``likelihood``
    (nats, of both losses, discounted by ``share``), ``times`` (how many times less probable than the first).
    ``discrepancy`` and ``share`` by loss; with a discrepancy of 0 losses are compared as they are, else up to a factor.
    """
    rows = []
    for one in suspects:
        likelihood = sum(
            share[column] * predict(one.logs[column], discrepancy[column]).log_likelihood(
                theirs[column], free_offset=discrepancy[column] > 0)
            for column in LOSSES)
        rows.append({"recipe": one.name, "kind": one.kind, "seeds": one.seeds,
                     "distance": float(shape_distance(one.logs[LOSSES[0]], theirs[LOSSES[0]]).mean()),
                     "likelihood": likelihood})
    table = pd.DataFrame(rows, columns=["recipe", "kind", "seeds", "distance", "likelihood"])
    table = table.sort_values("likelihood", ascending=False, ignore_index=True)
    return table.assign(times=np.exp(table["likelihood"].max() - table["likelihood"]))


def held_out(recipe: Recipe, column: str) -> float:
    """The share of rows in which a seed of the recipe lies in the 95 % prediction interval of its other seeds.

    NaN for fewer than three seeds. It is what a column that was made by the recipe itself should reach.
    """
    logs = recipe.logs[column]
    if len(logs) < 3:
        return math.nan
    return float(np.mean([predict(logs.drop(seed)).inside(logs.loc[seed]).mean() for seed in logs.index]))
