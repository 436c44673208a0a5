# SPDX-License-Identifier: GPL-3.0-or-later
"""Large sections of the definitions are stored in parts."""

from __future__ import annotations

import base64
import gzip
import json
import typing as t

import pytest
from lab import Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine import sections
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import UnreadableError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.sections import fold, unfold
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store import shrinking

MANY = {f"role-{nth}": {"description": "ä" * 100, "ttl": nth} for nth in range(2000)}


def test_what_many_definitions_hold_comes_back_as_it_was(lab: Lab) -> None:
    lab.mount().define(lambda data: data.update(roles=dict(MANY), projects={"p": {"n": 1}}) is None)
    assert lab.mount().definitions("roles") == MANY and lab.mount().definitions("projects") == {"p": {"n": 1}}
    lab.mount().define(lambda data: data["roles"].pop("role-7") is not None)
    found = lab.mount().definitions("roles")
    assert len(found) == len(list(found)) == 1999 and "role-7" not in found and found["role-8"]["ttl"] == 8


def test_small_sections_stay_readable_and_large_ones_become_small() -> None:
    small = {name: MANY[name] for name in list(MANY)[:20]}
    assert fold({"roles": small}) == {"roles": small}
    stored = fold({"roles": MANY, "projects": small})
    assert len(json.dumps(stored["roles"])) < len(json.dumps(MANY)) / 10 and stored["projects"] == small
    assert fold(unfold(stored)) == stored


def test_a_task_opens_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = unfold(fold({"roles": MANY}))["roles"]
    opened: list[dict[str, t.Any]] = []
    really = sections._open

    def watched(part: str) -> dict[str, t.Any]:
        opened.append(really(part))
        return opened[-1]

    monkeypatch.setattr(sections, "_open", watched)
    assert stored["role-1999"] == MANY["role-1999"] and stored.get("none") is None
    assert len(opened) == 2 and max(map(len, opened)) < 200


def test_sections_are_compared_by_what_they_hold() -> None:
    stored, same, other = (unfold(fold({"r": each}))["r"] for each in (MANY, dict(MANY), {**MANY, "role-1": {}}))
    assert stored == same and stored == MANY and stored != other and stored != {}


@pytest.mark.parametrize(
    "part",
    [
        pytest.param("", id="nothing"),
        pytest.param("!", id="not base64"),
        pytest.param(base64.b64encode(b"text").decode(), id="not gzip"),
        pytest.param(base64.b64encode(gzip.compress(b"text" * 99)[:-6]).decode(), id="cut short"),
        pytest.param(base64.b64encode(gzip.compress(b"\xff")).decode(), id="not text"),
        pytest.param(base64.b64encode(gzip.compress(b"[1]")).decode(), id="no object"),
        pytest.param(base64.b64encode(gzip.compress(b"\0" * 1001)).decode(), id="too large"),
        pytest.param(7, id="a number"),
    ],
)
def test_what_was_not_stored_as_a_part_is_named(monkeypatch: pytest.MonkeyPatch, part: t.Any) -> None:
    monkeypatch.setattr(shrinking, "_LARGEST", 1000)
    edited = unfold({"roles": [part]})["roles"]
    for read in (lambda: edited["my-role"], lambda: list(edited), lambda: len(edited)):
        with pytest.raises(
            UnreadableError, match=r"^store: section 'roles' of the definitions does not hold what it should; somebody"
        ):
            read()


def test_a_section_without_parts_is_named_and_no_name_is_a_defect() -> None:
    with pytest.raises(UnreadableError):
        list(unfold({"roles": []})["roles"])
    assert "\ud800" not in unfold(fold({"roles": MANY}))["roles"]
