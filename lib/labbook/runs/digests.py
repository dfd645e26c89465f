"""Which code made a run: a digest of the lab's numeric modules, and earlier digests that give the same numbers.

Comments, docstrings and imports between the project's own modules do not change a digest, so moving code is free. What
is known of earlier code is data: ``results/equivalences.yml``.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import itertools
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from labbook.paths import project_root

Code = Literal["today's", "same numbers", "other"]


def digest_of(paths: Iterable[Path], internal: Collection[str] = ()) -> str:
    """Twelve hex digits of the code in these files.

    ``internal`` names the top-level packages whose imports are left out: where a function lives changes no number.
    """
    digest = hashlib.sha256()
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            for block in ("body", "orelse", "finalbody"):
                if isinstance(statements := getattr(node, block, None), list):
                    statements[:] = [one for one in statements if not _imports(one, internal)]
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                value = body[0].value
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    del body[0]
        digest.update(repr(_plain(tree)).encode())
    return digest.hexdigest()[:12]


def _imports(node: ast.AST, packages: Collection[str]) -> bool:
    """Whether a statement imports from one of ``packages`` alone."""
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in packages
    return isinstance(node, ast.Import) and all(alias.name.split(".")[0] in packages for alias in node.names)


def _plain(part: Any) -> Any:
    """A syntax tree as nested tuples of strings, the same under every version of Python.

    Absent fields are left out, since later versions have more of them; and the text between an f-string's values is one
    piece, which is cut in other places from version to version.
    """
    if isinstance(part, ast.AST):
        fields = {name: value for name, value in ast.iter_fields(part) if value is not None and value != []}
        if isinstance(part, ast.JoinedStr):
            runs = itertools.groupby(fields.get("values", []), key=lambda value: isinstance(value, ast.Constant))
            fields["values"] = [
                piece for text, values in runs
                for piece in (["".join(value.value for value in values)] if text else values) if piece != ""]
        return type(part).__name__, *((name, _plain(value)) for name, value in fields.items())
    return tuple(map(_plain, part)) if isinstance(part, list) else ascii(part)


def file_of(module: str) -> Path:
    """The source file of a module, found without importing it: ``cifarlab.training``."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if not rest:
        return Path(spec.origin)
    return Path(spec.submodule_search_locations[0]).joinpath(*rest).with_suffix(".py")


@functools.cache
def code_digest(modules: tuple[str, ...]) -> str:
    """The digest of a lab's numeric ``modules``."""
    return digest_of(map(file_of, modules), {"labbook", *(module.split(".")[0] for module in modules)})


@functools.cache
def equivalences(path: Path | None = None) -> Mapping[str, Any]:
    """What is known of earlier code: ``same_numbers`` (digest to reason), ``other_numbers`` (run id to reason) and
    ``same_measurements`` (digest of a benchmark to reason). Empty where there is no such file.
    """
    path = path or project_root() / "results" / "equivalences.yml"
    if not path.is_file():
        return {"same_numbers": {}, "other_numbers": {}, "same_measurements": {}}
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def made_by(digests: Collection[str], run_id: str, today: str) -> Code:
    """Whose code made a run whose parts have these ``digests``: today's, earlier code that gives the same numbers, or
    other.
    """
    known = equivalences()
    if set(digests) == {today}:
        return "today's"
    same = set(digests) <= {today, *known["same_numbers"]} and run_id not in known["other_numbers"]
    return "same numbers" if same else "other"
