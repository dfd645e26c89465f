"""YAML 1.2 read strictly: no key twice, ``on`` and dates are text, and whatever cannot be read is one sentence."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError

from labbook.errors import LabError


class YamlError(LabError):
    """A text is not YAML; the message says what is wrong and in which line."""


class _Plain(SafeConstructor):
    """Text, numbers, True and False, lists and maps; a date is text."""


_Plain.add_constructor("tag:yaml.org,2002:timestamp", _Plain.construct_yaml_str)


def parse(text: str) -> Any:
    """Read one YAML document. Builds no object other than plain values, whatever tags the text has.

    Raises:
        YamlError: it cannot be read, or a key appears twice.
    """
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _Plain
    try:
        return reader.load(text)
    except MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        problem = error.problem or "it is not YAML"
        if isinstance(error, DuplicateKeyError):
            key = problem.partition('"')[2].partition('"')[0]
            raise YamlError(f"{key!r} appears twice{line}. Remove one, or give it another name.") from None
        raise YamlError(f"it is not YAML: {problem}{line}.") from None
    except RecursionError:
        raise YamlError("it is nested too deeply to be read.") from None
    except Exception as error:  # the reader's own conversions: `!!int foo`, a number of 5,000 digits
        raise YamlError(f"it is not YAML: {str(error).partition(chr(10))[0][:200]}.") from None
