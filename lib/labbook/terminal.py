"""What every command line of a lab book has in common: errors as sentences, exit statuses, durations.

Exit status 0: done; 1: done, but something failed; 2: refused, with a sentence that says why; 130: interrupted.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Mapping, Sequence

import typer
from typer.core import TyperGroup

from labbook.errors import LabError, shown

YEAR = 365 * 24 * 3600


class Commands(TyperGroup):
    """A group of commands in which an error that a user can mend is one sentence, and no traceback."""

    def invoke(self, context: typer.Context) -> object:
        try:
            answer = super().invoke(context)
            sys.stdout.flush()   # a reader who has had enough, as `head` has, is noticed here and not at the very end
            return answer
        except LabError as error:
            print(error, file=sys.stderr)
            raise typer.Exit(2) from None
        except ModuleNotFoundError as error:   # an environment for reading has no PyTorch
            print(f"This needs the package {error.name}, which is not installed. `make train` installs it.",
                  file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            said = (context.obj or {}).get(context.invoked_subcommand, "nothing was changed")
            print(f"\nstopped; {said}", file=sys.stderr)
            raise typer.Exit(130) from None


def application(text: str, when_stopped: Mapping[str, str]) -> typer.Typer:
    """An empty command line. ``when_stopped`` says, for each command's name, what a Ctrl-C leaves behind."""
    app = typer.Typer(
        cls=Commands, help=text, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
        no_args_is_help=True, context_settings={"obj": dict(when_stopped), "help_option_names": ["-h", "--help"]},
    )
    app.callback()(lambda: None)   # a group, even of one command
    return app


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # A warning such as that of a damaged file is a sentence for the user, without the line of code that gave it.
    warnings.showwarning = lambda message, *_, **__: print(message, file=sys.stderr)
    try:
        app(args=arguments if arguments is None else list(arguments))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return 0


def seconds(text: str) -> float:
    """Read a duration such as ``90s``, ``45m``, ``2h`` or ``1h30m``, at most a year.

    Raises:
        typer.BadParameter: it is none.
    """
    import pandas as pd  # a quarter of a second to import

    try:
        # A bare number would be one of nanoseconds.
        found = pd.Timedelta(text).total_seconds() if text[-1:].isalpha() else 0
    except ValueError:
        found = 0
    if not 0 < found <= YEAR:
        raise typer.BadParameter(f"{shown(text)} is not a duration such as 45m, 2h or 1h30m, up to a year (8760h).")
    return found


def count(text: object) -> int:
    """Read a whole number from 1 to 1,000.

    Raises:
        typer.BadParameter: it is none.
    """
    if not re.fullmatch(r"[0-9]{1,4}", str(text)) or not 1 <= int(str(text)) <= 1000:
        raise typer.BadParameter(f"{shown(text)} is refused: it must be a whole number from 1 to 1000.")
    return int(str(text))
