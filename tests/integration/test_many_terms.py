# SPDX-License-Identifier: GPL-3.0-or-later
"""A lookup with many terms issues several at a time, in their order, and loses none of them if one fails."""

from __future__ import annotations

import json
import typing as t

import pytest
from lab import BOTH_STORES, Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

pytestmark = BOTH_STORES
TTLS = {"role-0": 600, "role-1": 1200, "role-2": 1800, "role-3": 2400}
LATENCY = 0.4
AT_ONCE = 8
CREATE = {"method": "POST", "path": "/service_accounts$"}


def ask(lab: Lab, *terms: str, reuse: str) -> list[t.Any]:
    """Return tasks that evaluate a lookup once, and write down which leases it returned."""
    named = ", ".join(map(repr, terms))
    shown = "found | map(attribute='lease_id') | zip(found | map(attribute='lease_duration'))"
    return [
        {
            "ansible.builtin.set_fact": {
                "found": f"{{{{ query('ephemeral.openai.openai_creds', {named}, reuse='{reuse}') }}}}"
            },
            "no_log": True,
        },
        {"ansible.builtin.copy": {"content": f"{{{{ {shown} | to_json }}}}", "dest": str(lab.path / "found.json")}},
    ]


def creations(lab: Lab) -> list[float]:
    """Return when each account was asked for."""
    asked = [one for one in lab.double.requests() if one["method"] == "POST"]
    return sorted(one["time"] for one in asked if one["path"].endswith("/service_accounts"))


def test_many_terms_are_issued_eight_at_a_time_and_returned_in_order(lab: Lab) -> None:
    lab.configure()
    for name, ttl in TTLS.items():
        lab.role(name, ttl=ttl)
    terms = list(TTLS) * 16
    lab.double.clear_requests()
    lab.double.settings(latency=LATENCY)
    run = lab.play(ask(lab, *terms, reuse="none"))
    lab.double.settings(latency=0.0)
    assert run.rc == 0, run.out
    found = json.loads((lab.path / "found.json").read_text())
    assert [lease_id.split("/")[2] for lease_id, _duration in found] == terms
    assert [duration for _lease_id, duration in found] == [TTLS[term] for term in terms]
    assert len({lease_id for lease_id, _duration in found}) == len(lab.accounts()) == len(terms)
    calls = creations(lab)
    assert len(calls) == len(terms)
    assert all(later - call > 0.9 * LATENCY for call, later in zip(calls, calls[AT_ONCE:])), "more than 8 at once"
    # However busy the machine is, eight are under way together at some time.
    assert any(later - call < LATENCY for call, later in zip(calls, calls[AT_ONCE - 1 :]))


def test_a_role_named_twice_is_issued_once_for_a_run(lab: Lab) -> None:
    lab.configure()
    lab.role("other")
    run = lab.play(ask(lab, *["my-role", "other"] * 10, reuse="run"))
    assert run.rc == 0, run.out
    found = [lease_id for lease_id, _duration in json.loads((lab.path / "found.json").read_text())]
    assert found == found[:2] * 10
    assert [lease_id.split("/")[2] for lease_id in found[:2]] == ["my-role", "other"]
    assert len(lab.accounts()) == 2


@pytest.mark.parametrize("reuse", ["run", "none"])
def test_what_others_were_given_ends_with_the_run_if_one_fails(lab: Lab, reuse: str) -> None:
    lab.configure()
    roles = [f"role-{number}" for number in range(24)]
    for name in roles:
        lab.role(name)
    lab.double.settings(latency=0.05)
    # OpenAI refuses one in the middle; the answer to another, which it has made, is lost.
    lab.double.fault(kind="drop_after", skip=9, times=1, **CREATE)
    lab.double.fault(kind="refuse", status=403, skip=12, times=1, **CREATE)
    run = lab.play(ask(lab, *roles, reuse=reuse))
    assert run.rc == 2, run.out
    assert "service account creation failed" in run.out
    assert "Traceback" not in run.out
    made = len(creations(lab))
    assert 12 < made < len(roles) + 2, "some were issued, and no more were begun once one had failed"
    leases = lab.leases()
    assert set(leases) == lab.accounts() and len(leases) > 8, "each is on record"
    result = cleanup(lab.mount(), orphans="report", max_concurrency=16, limit=None, grace=600, dry_run=False)
    assert result["failed"] == result["orphans"] == []
    assert lab.accounts() == set() and lab.leases() == {}


def test_the_callback_ends_what_others_were_given_if_one_fails(lab: Lab) -> None:
    lab.configure()
    lab.env["ANSIBLE_CALLBACKS_ENABLED"] = "ephemeral.openai.openai_leases"
    lab.double.fault(kind="refuse", status=403, skip=12, times=1, **CREATE)
    run = lab.play(ask(lab, *["my-role"] * 24, reuse="none"))
    assert run.rc == 2, run.out
    assert len(creations(lab)) > 12
    assert lab.accounts() == set() and lab.leases() == {}
