# SPDX-License-Identifier: GPL-3.0-or-later
"""The event source as ansible-rulebook runs it: arguments in, events into a queue, whatever the store does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import runpy
import time
import typing as t
from pathlib import Path

import pytest
from lab import BOTH_STORES, MARKER, VAULT_PASSWORD, Lab
from wording import sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible import event_source
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, StoreError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep import events as watched

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "extensions" / "eda" / "plugins" / "event_source" / "openai_events.py"

Data = dict[str, t.Any]


@pytest.fixture(autouse=True)
def environment(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is that of the control node, in which nothing else is set."""
    for name in list(os.environ):
        if name.startswith(("VAULT_", "BAO_", "ANSIBLE_", "OPENAI_CREDS_")):
            monkeypatch.delenv(name)
    for name, value in lab.env.items():
        if name.startswith(("VAULT_", "OPENAI_CREDS_", "ANSIBLE_HASHI_VAULT_", "ANSIBLE_VAULT_")):
            monkeypatch.setenv(name, value)


def args(lab: Lab, **more: t.Any) -> Data:
    """Return arguments of a source, as a rulebook gives them."""
    return {"store_path": str(lab.store_path), **more}


def events(arguments: Data, seconds: float, until: int = 100) -> list[Data]:
    """Return the events that a source puts into its queue until it has put so many, or for so many seconds."""
    # Under ansible-test, Ansible takes an absolute path below the collection for a package of it.
    main = runpy.run_path(os.path.relpath(SOURCE))["main"]
    found: list[Data] = []

    async def run() -> None:
        queue: asyncio.Queue[Data] = asyncio.Queue()
        source = asyncio.create_task(main(queue, arguments))
        end = asyncio.get_running_loop().time() + seconds
        try:
            while len(found) < until and not source.done():
                async with asyncio.timeout_at(end):
                    getting = asyncio.create_task(queue.get())
                    await asyncio.wait({getting, source}, return_when=asyncio.FIRST_COMPLETED)
                    if getting.done():
                        found.append(getting.result())
                    else:
                        getting.cancel()
        except TimeoutError:
            pass
        if source.done():
            source.result()
        began = time.monotonic()
        source.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await source
        assert time.monotonic() - began < 0.5, "a source ends at once"

    asyncio.run(run())
    return found


def refused(arguments: Data) -> str:
    with pytest.raises(OpenAICredsError) as error:
        events(arguments, 5)
    return sentence(error.value)


@BOTH_STORES
def test_a_lease_is_told_of_as_soon_as_it_ends(lab: Lab) -> None:
    lab.configure()
    before = lab.double.mark()
    lease = issue(lab.mount(), "my-role", ttl=3)
    asked = len(lab.double.requests(before))
    expiring, expired = events(args(lab), 20, until=2)
    assert time.time() - int(lease_end(lab, lease["lease_id"])) < 2
    facts = {"mount": "openai", "lease_id": lease["lease_id"], "role": "my-role", "expires_at": lease["expires_at"]}
    assert expiring == {"openai_creds": {"type": "lease_expiring", **facts}}
    assert expired == {"openai_creds": {"type": "lease_expired", **facts}}
    assert len(lab.double.requests(before)) == asked, "a source never calls OpenAI"


def lease_end(lab: Lab, lease_id: str) -> float:
    from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import find_record

    record = find_record(lab.mount(), lease_id)
    assert record
    return record.lease.expires_at


@pytest.mark.parametrize("known", [1, 60])
def test_the_interval_does_not_delay_the_end_of_a_known_lease(
    lab: Lab, known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.configure()
    issue(lab.mount(), "my-role", ttl=3)
    monkeypatch.setattr(watched, "_KNOWN_SECONDS", known)
    began = time.monotonic()
    (event,) = events(args(lab, interval="1h", ahead="0"), 20, until=1)
    assert event["openai_creds"]["type"] == "lease_expired"
    assert time.monotonic() - began < 6


def test_a_mount_that_nobody_has_made_yet_has_no_events(lab: Lab) -> None:
    assert events(args(lab), 1.5) == []
    assert not lab.store_path.exists(), "a source writes nothing"


def test_a_store_that_cannot_be_read_is_tried_again(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.configure()
    lease = issue(lab.mount(), "my-role", ttl=60)
    failures: list[Exception] = [
        StoreError("store: Vault is sealed"),
        RuntimeError(f"a defect with {VAULT_PASSWORD} and {MARKER} in it"),
    ]
    check = Mount.check_is_here

    def failing(mount: Mount) -> None:
        if failures:
            raise failures.pop(0)
        check(mount)

    monkeypatch.setattr(Mount, "check_is_here", failing)
    caplog.set_level(logging.DEBUG)
    began = time.monotonic()
    (event,) = events(args(lab), 20, until=1)
    assert event["openai_creds"]["lease_id"] == lease["lease_id"]
    assert time.monotonic() - began >= 3, "one second, then two"
    text = caplog.text
    assert "trying again in 1 s: store: Vault is sealed" in text
    assert "trying again in 2 s: this is a defect of ephemeral.openai, please report it: RuntimeError" in text
    assert "events can be found again" in text
    for secret in (VAULT_PASSWORD, MARKER, "sk-"):
        assert secret not in text, "a secret was logged"


def test_the_wait_grows_to_a_minute(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.configure()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 9:
            raise asyncio.CancelledError

    def failing(mount: Mount) -> None:
        raise StoreError("store: Vault is sealed")

    monkeypatch.setattr(Mount, "check_is_here", failing)
    monkeypatch.setattr(event_source.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(event_source.send_events(asyncio.Queue(), args(lab)))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_source_that_is_cancelled_does_not_wait_for_the_store(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mount, "check_is_here", lambda mount: time.sleep(8))
    began = time.monotonic()
    assert events(args(lab), 1) == []
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"interval": "often"}, "interval: 'often' is not a duration; write seconds or e.g. 90s, 30m, 1h30m, 7d"),
        ({"interval": 0}, "interval: '0' must be between 1 second(s) and 3650 days"),
        ({"ahead": "-1s"}, "ahead: '-1s' is not a duration; write seconds or e.g. 90s, 30m, 1h30m, 7d"),
        ({"store": "etcd"}, "store: 'etcd' is not one of vaulted_file, vault_kv"),
        ({"mount": "a b"}, "mount: 'a b'"),
        ({"vault_password_file": "/nowhere/secret"}, "vault_password_file: The vault password file /nowhere/secret"),
        ({"vault_password_file": ["x"]}, "vault_password_file: give the path of a file"),
        ({"intervals": 1}, "'intervals' is not an option of openai_events"),
    ],
)
def test_wrong_arguments_are_refused_at_once(lab: Lab, wrong: Data, message: str) -> None:
    assert refused(args(lab, **wrong)).startswith(message)


def test_a_vault_secret_is_needed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE")
    assert refused(args(lab)).startswith("vault_password_file: store vaulted_file needs a vault secret")
    monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", "ops@prompt")
    assert refused(args(lab)).startswith("vault_identity_list: 'ops@prompt' asks for a password")


@pytest.mark.parametrize("by", ["vault_password_file", "ANSIBLE_VAULT_IDENTITY_LIST"])
def test_the_vault_secret_may_come_from(lab: Lab, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    lab.configure()
    lease = issue(lab.mount(), "my-role", ttl=60)
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE")
    more = {}
    if by == "vault_password_file":
        more = {"vault_password_file": str(lab.password_file)}
    else:
        monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", f"ops@{lab.password_file}")
    (event,) = events(args(lab, **more), 10, until=1)
    assert event["openai_creds"]["lease_id"] == lease["lease_id"]


def test_two_mounts_are_watched_with_their_own_passwords(lab: Lab, tmp_path: Path) -> None:
    wrong = tmp_path / "other"
    wrong.write_text("another password")
    lab.configure()
    issue(lab.mount(), "my-role", ttl=60)
    assert events(args(lab, vault_password_file=str(wrong)), 1.5) == []
    assert len(events(args(lab, vault_password_file=str(lab.password_file)), 10, until=1)) == 1
