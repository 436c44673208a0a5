# SPDX-License-Identifier: GPL-3.0-or-later
"""Many takers of few accounts: none is held twice, none is lost, and each key is dead after its check-in."""

from __future__ import annotations

import multiprocessing
import queue
import random
import threading
import time
import typing as t
from pathlib import Path

import pytest
from lab import BOTH_STORES, Lab
from library_sets import give_in, live_keys, status, write
from unit.test_leases import opens_models

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import matching
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_out import check_out
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data

#: Who takes accounts: threads or processes.
Starter = t.Callable[..., t.Any]


def take(lab: Lab, number: int, held: Path, rounds: int, pause: float, told: t.Any) -> None:
    """Check accounts out and in so many times; held has a file for each account that somebody has. Tells how often, or what
    was wrong. pause is for about how many seconds it waits when none is free."""
    done = 0
    try:
        mount = lab.mount()
        mount.issued_by = {"user": f"taker-{number}", "controller": "control"}
        while done < rounds:
            creds = _check_out(mount)
            if creds is None:
                time.sleep(random.uniform(0.5, 1.5) * pause)
                continue
            mark = held / creds["service_account"]
            mark.touch(exist_ok=False)
            assert opens_models(lab, creds["api_key"]), "a key does not work"
            mark.unlink()
            assert give_in(mount, creds) == creds["lease_id"], "a check-out was not there to be checked in"
            assert not opens_models(lab, creds["api_key"]), "a key works after its check-in"
            done += 1
    except BaseException as error:  # noqa: BLE001 - it is judged where it is waited for
        told.put(repr(error))
        return
    told.put(done)


def _check_out(mount: Mount) -> Data | None:
    try:
        return check_out(mount, "pool", 600)
    except OpenAICredsError as error:
        if "no available service accounts in library" not in str(error):
            raise
        return None


def contend(lab: Lab, start: Starter, told: t.Any, *, accounts: int, takers: int, rounds: int) -> None:
    """Let takers contend, and look at the status as long as they do."""
    lab.configure()
    watched = lab.mount()
    write(watched, *(f"account-{number}" for number in range(accounts)))
    held = lab.path / "held"
    held.mkdir()
    each = rounds // takers
    # The more wait, the less often each asks: else the asking takes the processor away from whoever has something to do.
    pause = takers * 0.02
    working = [start(target=take, args=(lab, number, held, each, pause, told)) for number in range(takers)]
    for one in working:
        one.start()
    samples = []
    while any(one.is_alive() for one in working):
        now = status(watched)
        samples.append(now["available_accounts"] + now["checked_out_accounts"])
        time.sleep(0.1)
    for one in working:
        one.join()
    assert [told.get(timeout=10) for _one in working] == [each] * takers
    assert set(samples) == {accounts}
    assert status(watched)["available_accounts"] == accounts and live_keys(lab) == []
    assert len(lab.double.state()["service_accounts"]) == accounts and matching(watched, None) == []


@BOTH_STORES
def test_ten_contend_for_four_accounts(lab: Lab) -> None:
    contend(lab, threading.Thread, queue.Queue(), accounts=4, takers=10, rounds=100)


@pytest.mark.slow
@pytest.mark.long
@BOTH_STORES
def test_fifty_processes_contend_for_five_accounts(lab: Lab) -> None:
    # Threads of the test must not be forked while they hold a lock.
    context = multiprocessing.get_context("fork")
    contend(lab, context.Process, context.Queue(), accounts=5, takers=50, rounds=500)
