"""Every figure that chapters share, in one visual style: colour-blind safe, light and transparent on a dark page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifarlab import stats

# Okabe & Ito's palette: told apart with any colour vision, and in print by the line styles beside it.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE = {
    "figure.dpi": 110, "figure.facecolor": "white", "axes.facecolor": "white", "axes.grid": True,
    "axes.spines.top": False, "axes.spines.right": False, "grid.alpha": 0.25, "axes.titlesize": "medium",
    "axes.titlelocation": "left", "legend.frameon": False, "font.size": 10.5, "svg.fonttype": "path",
    "svg.hashsalt": "cifarlab", "figure.constrained_layout.use": True, "savefig.bbox": "tight",
}

LABELS = {
    "train_loss": "training loss (nats)", "val_loss": "validation loss (nats)",
    "train_accuracy": "training accuracy (%)", "val_accuracy": "validation accuracy (%)",
    "learning_rate": "learning rate",
}


def new_figure(columns: int = 1, rows: int = 1, width: float = 4.2, height: float = 3.3) -> tuple[Figure, np.ndarray]:
    """A figure in the book's style that no global state knows of, and its axes as a flat array."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes.ravel()


def in_percent(column: str, values):
    """Accuracies are stored as fractions and drawn in percent."""
    return 100 * values if column.endswith("accuracy") else values


def run_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and accuracy of one run, training and validation, epoch by epoch."""
    frame = pd.DataFrame(history)
    figure, axes = new_figure(2)
    for axis, quantity in zip(axes, ("loss", "accuracy"), strict=True):
        for colour, part in zip(COLOURS, ("train", "val"), strict=False):
            column = f"{part}_{quantity}"
            axis.plot(frame["epoch"], in_percent(column, frame[column].astype(float)), marker="o", ms=3, color=colour,
                      label={"train": "training", "val": "validation"}[part])
        axis.set(xlabel="epoch", ylabel={"loss": "loss (nats)", "accuracy": "accuracy (%)"}[quantity])
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
    return figure
