"""Keep the website fresh: run every page again when an input changed, or when the last build was not clean.

Sphinx sees only a page's own source. The pages here also depend on the library, the studies, the results and the
other pages' numbers. So the digest of all of these is noted when a build ends without a single warning; when it differs
at the next build, or was never noted because a page failed, everything is read again. That takes about a minute, and a
stale number is worse.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from labbook.paths import VARIABLE

# What pages read, from the project's root. A pattern is matched below the root, whose own name may have brackets in it.
INPUTS = ("labbook.toml", "lib/**/*.py", "studies/*", "notebooks/*.ipynb", "examples/**/*.py", "examples/**/*.yml",
          "examples/**/*.ipynb", "book/**/*", "site_extra/**/*", "results/*.*", "results/data/*", "results/original/*",
          "results/published/*", "results/bench*/**/*")
GENERATED = "book/evidence"
RESULTS = ("runs/*", "predictions/*", "models/*")


def inputs_digest(root: Path) -> str:
    """A digest of the names and contents of everything that pages read."""
    digest = hashlib.sha256()
    results = root / os.path.expanduser(os.environ.get(VARIABLE) or "results")
    for folder, patterns in ((root, INPUTS), (results, RESULTS)):
        for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
            if path.name.startswith(".") or not path.is_file() or path.is_relative_to(folder / GENERATED):
                continue  # a result that is being written, a folder, or a page that the build itself makes
            digest.update(f"{path.relative_to(folder)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def marker(app) -> Path:
    """Where the digest of the last clean build is noted."""
    return Path(app.doctreedir) / "lab-inputs-digest"


def outdated(app, env, added, changed, removed) -> set[str]:
    """Sphinx's ``env-get-outdated``: which pages to read again besides those it found itself."""
    app.lab_inputs_digest = inputs_digest(Path(app.srcdir))
    noted = marker(app).read_text() if marker(app).is_file() else None
    # Until this build has ended cleanly, it counts as failed.
    marker(app).unlink(missing_ok=True)
    return set(env.found_docs) if noted != app.lab_inputs_digest else set()


def finished(app, exception) -> None:
    """Sphinx's ``build-finished``."""
    if exception is None and app._warncount == 0 and hasattr(app, "lab_inputs_digest"):
        marker(app).write_text(app.lab_inputs_digest)


def setup(app):
    app.connect("env-get-outdated", outdated)
    app.connect("build-finished", finished)
    return {"version": "1", "parallel_read_safe": True}
