# SPDX-License-Identifier: GPL-3.0-or-later
"""check.py SITE: whether the site is whole, every link leads somewhere, and nothing on it comes from another host.

Other hosts are not asked; links to them must begin with https and name no machine of the writer's.
"""

from __future__ import annotations

import re
import sys
import typing as t
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

CHECKOUT = Path(__file__).resolve().parent.parent.parent
#: What a browser fetches by itself, and the attribute that says from where.
FETCHED = {
    "audio": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "script": "src",
    "source": "src",
    "video": "src",
}


class Page(HTMLParser):
    """What a page links to, what it fetches, and which anchors and diagrams it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.anchors: set[str] = set()
        self.diagrams = 0
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.add(values.get("id", ""))
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        # A search engine, not a browser, follows links of other kinds, such as to the next page.
        elif tag in FETCHED and FETCHED[tag] in values and (tag != "link" or "stylesheet" in values.get("rel", "")):
            self.fetched.add(values[FETCHED[tag]])
        if tag == "img" and values["src"].endswith(".svg"):
            self.diagrams += 1


def wanted() -> dict[str, int]:
    """Return which pages there must be, and how many diagrams are on each."""
    pages = {"index.html": CHECKOUT / "README.md"}
    pages |= {f"docs/{guide.stem}.html": guide for guide in CHECKOUT.glob("docs/*.md")}
    found = {name: guide.read_text().count("```mermaid\n") for name, guide in pages.items()}
    for folder, kind in (("modules", "module"), ("lookup", "lookup"), ("callback", "callback")):
        for plugin in CHECKOUT.glob(f"plugins/{folder}/[!_]*.py"):
            found[f"collections/ephemeral/openai/{plugin.stem}_{kind}.html"] = 0
    for role in CHECKOUT.glob("roles/*/meta"):
        found[f"collections/ephemeral/openai/{role.parent.name}_role.html"] = 0
    return found


def faults(site: Path, wanted: dict[str, int]) -> t.Iterator[str]:
    """Say what is wrong with a site."""
    pages = {str(path.relative_to(site)): Page(path) for path in site.rglob("*.html")}
    for name, diagrams in wanted.items():
        if name not in pages:
            yield f"{name}: missing"
        elif pages[name].diagrams != diagrams:
            yield f"{name}: has {pages[name].diagrams} diagrams instead of {diagrams}"
    for name, page in pages.items():
        for target in page.fetched:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or not (site / name).parent.joinpath(unquote(parts.path)).is_file():
                yield f"{name}: is not on the site: {target}"
        for target in page.links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if (
                    parts.scheme != "https"
                    or not re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
                    or not re.search(r"[a-z]$", parts.netloc)
                ):
                    yield f"{name}: is no address that others can open: {target}"
                continue
            there = (site / name).parent.joinpath(unquote(parts.path)).resolve() if parts.path else site / name
            other = pages.get(str(there.relative_to(site))) if there.is_relative_to(site) else None
            if not there.is_file() or (parts.fragment and other and unquote(parts.fragment) not in other.anchors):
                yield f"{name}: leads nowhere: {target}"
    for style in site.rglob("*.css"):
        for target in re.findall(r"(?:@import\s+|url\()[\"']?(?:https?:)?//[^\"')\s]+", style.read_text()):
            yield f"{style.relative_to(site)}: is not on the site: {target}"


def main() -> None:
    site = Path(sys.argv[1]).resolve()
    found = sorted(faults(site, wanted()))
    if found:
        sys.exit("\n".join(found))
    pages = [Page(path) for path in site.rglob("*.html")]
    outside = {link for page in pages for link in page.links if urlsplit(link).netloc}
    print(
        f"{len(pages)} pages in {site}: all links on the site lead somewhere. Not asked: {len(outside)} addresses elsewhere."
    )


if __name__ == "__main__":
    main()
