"""What this book computes once and commits, ``python -m cifarbook COMMAND``: the dataset's card, the networks."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from labbook import terminal

app = terminal.application("What this book computes once and commits.", {})


@app.command()
def card() -> None:
    """Compute the dataset's card.

    Statistics and sample pictures for the chapter on the data, so that the book builds without the dataset.
    """
    from cifarbook import card as dataset_card

    print(f"written to {dataset_card.write()}")


@app.command()
def networks() -> None:
    """Describe every study's network.

    Layers, parameters and arithmetic, so that the book is read without PyTorch.
    """
    from cifarbook import networks as described

    print(f"written to {described.write()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a wrong value is one clear sentence and exit status 2."""
    return terminal.run(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
