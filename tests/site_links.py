"""Follow every link of a built site."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup


def dead_links(site: Path) -> list[str]:
    """Every link of a site that leads to no file of it, or to no such place in one."""
    pages = {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in site.rglob("*.html")}
    places = {path: {tag.get(name) for tag in page.find_all(True) for name in ("id", "name")}
              for path, page in pages.items()}
    dead = []
    for path, page in pages.items():
        for link in page.find_all("a", href=True):
            address = urlsplit(link["href"])
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            known = places.get(target)
            if not target.exists() or (address.fragment and known is not None
                                       and unquote(address.fragment) not in known):
                dead.append(f"{path.relative_to(site)}: {link['href']}")
    return dead
