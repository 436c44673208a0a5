# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make docs` finds on a site: docs/site/check.py, on sites with one fault each."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.once
_spec = importlib.util.spec_from_file_location("check", ROOT / "docs" / "site" / "check.py")
assert _spec and _spec.loader
check = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check)

WHOLE = """
<link rel="stylesheet" href="site.css"><link rel="next" href="https://example.com/next">
<h1 id="top">Top</h1><img src="diagram.svg">
<a href="#top">top</a> <a href="docs/store.html#limits">limits</a> <a href="https://docs.ansible.com/x.html#y">Ansible</a>
"""
WANTED = {"index.html": 1, "docs/store.html": 0}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "index.html").write_text(WHOLE)
    (tmp_path / "docs" / "store.html").write_text('<h2 id="limits">Limits</h2><a href="../index.html">home</a>')
    (tmp_path / "site.css").write_text('p { background: url("diagram.svg"); }')
    (tmp_path / "diagram.svg").write_text("<svg/>")
    return tmp_path


def test_a_whole_site_has_no_faults(site: Path) -> None:
    assert list(check.faults(site, WANTED)) == []


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<a href="docs/vault.html">x</a>', "index.html: leads nowhere: docs/vault.html"),
        ('<a href="docs/store.html#backup">x</a>', "index.html: leads nowhere: docs/store.html#backup"),
        ('<a href="#bottom">x</a>', "index.html: leads nowhere: #bottom"),
        ('<a href="../secret.html">x</a>', "index.html: leads nowhere: ../secret.html"),
        ('<a href="http://example.com/">x</a>', "index.html: is no address that others can open: http://example.com/"),
        ('<a href="https://localhost/">x</a>', "index.html: is no address that others can open: https://localhost/"),
        ('<a href="https://127.0.0.1/">x</a>', "index.html: is no address that others can open: https://127.0.0.1/"),
        ('<script src="https://cdn.example.com/x.js"></script>', "index.html: is not on the site: https://cdn.example.com/x.js"),
        ('<script src="//cdn.example.com/x.js"></script>', "index.html: is not on the site: //cdn.example.com/x.js"),
        ('<link rel="stylesheet" href="x.css">', "index.html: is not on the site: x.css"),
        ('<img src="diagram.svg">', "index.html: has 2 diagrams instead of 1"),
    ],
)  # fmt: skip
def test_a_fault_of_a_page_is_found(site: Path, page: str, fault: str) -> None:
    with (site / "index.html").open("a") as opened:
        opened.write(page)
    assert list(check.faults(site, WANTED)) == [fault]


@pytest.mark.parametrize(
    "style", ["@import 'https://fonts.example.com/x.css';", "p { src: url(//fonts.example.com/x) }"]
)
def test_a_style_that_fetches_from_elsewhere_is_found(site: Path, style: str) -> None:
    (site / "site.css").write_text(style)
    (found,) = check.faults(site, WANTED)
    assert found.startswith("site.css: is not on the site: ")


def test_a_page_that_is_missing_is_found(site: Path) -> None:
    assert list(check.faults(site, {**WANTED, "docs/vault.html": 0})) == ["docs/vault.html: missing"]


def test_every_guide_and_plugin_is_wanted() -> None:
    wanted = check.wanted()
    assert {"index.html", "docs/README.html", "docs/quickstart.html"} <= set(wanted)
    reference = {name.rpartition("/")[2] for name in wanted if name.startswith("collections/ephemeral/openai/")}
    assert {
        "openai_creds_module.html",
        "openai_creds_lookup.html",
        "openai_leases_callback.html",
        "deliver_role.html",
    } <= reference
    assert wanted["docs/library.html"] == 1
