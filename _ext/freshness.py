"""Keep the website fresh: re-read, and so re-run, pages whose inputs changed or that failed last time.

Sphinx sees only a page's own source. The pages here also depend on the library, the studies, the results and the
other pages' numbers. When any of those differs from what the last build saw, every page is read again; that takes
about a minute, and a stale number is worse.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

INPUTS = ("lib/**/*.py", "studies/*.yml", "results/runs/*.json", "results/original/*", "results/bench/*",
          "results/predictions/*", "results/models/*", "notebooks/*.ipynb", "_ext/*.py")


def inputs_digest(root: Path) -> str:
    """A digest of the names and contents of everything that pages read."""
    digest = hashlib.sha256()
    for pattern in INPUTS:
        for path in sorted(root.glob(pattern)):
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def failed_pages(env) -> set[str]:
    """Pages whose notebook did not run to its end in the last build."""
    return {
        page for page, metadata in env.metadata.items()
        if not ((metadata.get("exec_data") or {}).get("succeeded", True))
    }


def outdated(app, env, added, changed, removed) -> set[str]:
    """Sphinx's ``env-get-outdated``: which pages to read again besides those it found itself."""
    digest = inputs_digest(Path(app.srcdir))
    previous = getattr(env, "lab_inputs_digest", None)
    env.lab_inputs_digest = digest
    stale = set(env.found_docs) if digest != previous else failed_pages(env)
    return stale & set(env.found_docs)


def setup(app):
    app.connect("env-get-outdated", outdated)
    return {"version": "1", "parallel_read_safe": False}
