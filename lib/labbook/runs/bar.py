"""The progress bar over many runs: it counts runs, and moves by how much work each is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from tqdm import tqdm

from labbook.lab import Config, the_lab
from labbook.runs.scratch import Progress

EVERY_SECONDS = 5.0


class RunsBar:
    """A context manager that draws the bar on stderr, and removes it at its end.

    ``progress`` says of runs under way how many epochs are finished (:func:`labbook.runs.scratch.progress`); it is
    asked every few seconds, so the bar moves within a long run too. What was finished before counts as done, and not
    as speed.
    """

    def __init__(self, configs: Sequence[Config], progress: Callable[[], Mapping[str, Progress]]) -> None:
        self.work = {config.id: the_lab().work(config) for config in configs}
        self.progress = progress
        self.finished: set[str] = set()
        self.shares: dict[str, float] = {}
        self.over = threading.Event()
        self.bar = tqdm(
            total=sum(self.work.values()), initial=self._done(), file=sys.stderr, disable=not configs, leave=False,
            dynamic_ncols=True, desc=self._counted(),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, about {remaining} left",
        )

    def __enter__(self) -> Self:
        if not self.bar.disable:
            threading.Thread(target=self._follow, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        self.bar.close()

    def finish(self, run_id: str) -> None:
        """Count a run that is finished, or failed: nothing of it is left to do."""
        self.finished.add(run_id)
        self.bar.set_description_str(self._counted(), refresh=False)
        self.refresh()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.write(line, file=sys.stderr)

    def refresh(self) -> None:
        """Draw the bar as far as the runs are now."""
        self.bar.n = self._done()
        self.bar.refresh()

    def _counted(self) -> str:
        return f"{len(self.finished)}/{len(self.work)} runs"

    def _done(self) -> float:
        now = {run_id: found.epochs / found.of for run_id, found in self.progress().items()}
        now |= dict.fromkeys(self.finished, 1.0)
        # A run's note goes a moment before its end is known here: the bar never moves back.
        self.shares = {run_id: max(now.get(run_id, 0.0), self.shares.get(run_id, 0.0)) for run_id in self.work}
        return sum(work * self.shares[run_id] for run_id, work in self.work.items())

    def _follow(self) -> None:
        while not self.over.wait(EVERY_SECONDS):
            self.refresh()
