# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotation of the admin key: interrupted at every instant, answered badly, done by several, and undone by hand."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import typing as t
from dataclasses import replace

import pytest
from lab import PROJECT, Lab
from unit.conftest import Clock, Crash
from unit.wording import sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import (
    delete_config,
    public_config,
    write_config,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import (
    ApiError,
    OpenAICredsError,
    StoreError,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.making import Uncertain
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.owners import GRACE_SECONDS, Owner
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.watches import WATCH_SECONDS
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client, transport
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation import making
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.admin_key import (
    Report,
    adopt,
    rotate,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.making import AdminKeyMaking
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.state import (
    KeyIntent,
    Rotation,
    change_rotation,
    key_at,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import process_of, this_process
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data, Store
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

KEYS = "/admin_api_keys"
ELSEWHERE = {"machine": "elsewhere", "pid": 1, "started": 1}
DEAD = {**this_process(), "started": 1}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "_PROOF_WAITS", (0, 0))
    monkeypatch.setattr(transport, "_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(client, "_UNKNOWN_WAITS", (0, 0))


def now(mount: Mount, **options: t.Any) -> Report:
    """Rotate, due or not."""
    return rotate(mount, **{"always": True, "overlap": 0, "expires_in": None, "dry_run": False, **options})


def clean(mount: Mount, **options: t.Any) -> Data:
    defaults = {"orphans": "report", "max_concurrency": 4, "limit": None, "grace": 600, "dry_run": False}
    return cleanup(mount, **{**defaults, **options})


def configure(mount: Mount, **options: t.Any) -> t.Any:
    names = ("admin_api_key", "admin_api_key_id", "organization_id", "api_endpoint")
    defaults = {**dict.fromkeys(names), "replace_key": False, "validate": True, "dry_run": False}
    return write_config(mount, **{**defaults, **options})


def refused(function: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> str:
    with pytest.raises(OpenAICredsError) as caught:
        function(*args, **kwargs)
    return sentence(caught.value)


def stored(lab: Lab) -> Data:
    return lab.mount().definitions("config")


def give_rotation(mount: Mount, process: Data) -> None:
    """Let the rotation under way be another process's."""

    def give(rotation: Rotation) -> Rotation:
        assert rotation.intent
        owner = Owner(process, rotation.intent.name, mount.now())
        return replace(rotation, intent=replace(rotation.intent, owner=owner))

    change_rotation(mount, give)


def begin_rotation(mount: Mount, process: Data) -> None:
    """Let another process have begun a rotation."""
    owner = Owner(process, "n", mount.now())
    intent = KeyIntent(key_at(mount.check_configured(), name="n"), "x", 0, None, owner)
    change_rotation(mount, lambda _none: Rotation(intent))


def at_openai(lab: Lab) -> dict[str, str]:
    """Return the admin keys that exist: id to name."""
    return {key["id"]: key["name"] for key in lab.double.state()["admin_keys"]}


def agree(lab: Lab) -> None:
    """The stored key is the one admin key, and nothing is left to do."""
    assert lab.admin_key_works()
    assert set(at_openai(lab)) == {stored(lab)["admin_api_key_id"]}
    assert lab.mount().definitions("rotation") == {}


# A rotation.


def test_a_rotation(lab: Lab, mount: Mount, clock: Clock) -> None:
    old = stored(lab)
    clock.move(100)
    report = now(mount)
    assert report == Report(
        rotated=True, replaced=old["admin_api_key_id"], changed=True, ended=[old["admin_api_key_id"]]
    )
    new = stored(lab)
    assert new["admin_api_key"] != old["admin_api_key"]
    assert new["last_rotated"] == clock()
    assert at_openai(lab)[new["admin_api_key_id"]].startswith("ephemeral-openai-openai-")
    agree(lab)
    assert lab.mount().definitions("rotation") == {}
    assert issue(mount, "my-role")["api_key"]


def test_it_costs_four_calls(lab: Lab, mount: Mount) -> None:
    since = lab.double.mark()
    now(mount)
    assert [request["method"] for request in lab.double.requests(since)] == ["GET", "POST", "GET", "DELETE"]


def test_a_dry_run_does_nothing(lab: Lab, mount: Mount, on_disk: t.Callable[[], dict[str, bytes]]) -> None:
    before = on_disk()
    assert now(mount, dry_run=True) == Report(rotated=True, changed=True, replaced=lab.double.admin_key_id)
    assert adopt(mount, **adoptee(lab), overlap=0, dry_run=True).rotated
    assert on_disk() == before
    assert {request["method"] for request in lab.double.requests()} <= {"GET"}


def test_a_key_with_native_expiry(lab: Lab, mount: Mount, clock: Clock) -> None:
    now(mount, expires_in=86400)
    assert stored(lab)["admin_api_key_expires_at"] == pytest.approx(clock() + 86400, abs=60)
    shown = public_config(mount, lab.mount().config())
    assert shown and shown["admin_api_key_expires_at"]
    now(mount)
    assert stored(lab)["admin_api_key_expires_at"] is None


def test_the_longest_name_of_a_mount(lab: Lab) -> None:
    mount = lab.mount("m" * 128)
    configure(mount, admin_api_key=lab.double.admin_key, api_endpoint=lab.double.url)
    now(mount)
    assert max(map(len, at_openai(lab).values())) < 80


def test_without_a_config(lab: Lab) -> None:
    assert "OpenAI client not configured" in refused(now, lab.mount())
    assert "OpenAI client not configured" in refused(
        adopt, lab.mount(), "sk-admin-1", "key_1", overlap=0, dry_run=False
    )


def test_an_id_that_is_not_known_is_found(lab: Lab, mount: Mount) -> None:
    mount.define(lambda data: data["config"].update(admin_api_key_id=None) or True)
    assert now(mount).replaced == lab.double.admin_key_id
    agree(lab)


def test_an_id_that_cannot_be_found_is_asked_for(lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    mount.define(lambda data: data["config"].update(admin_api_key_id=None) or True)
    monkeypatch.setattr(client.AdminKey, "fits", lambda self, value: None)
    assert "give it to openai_config" in refused(now, mount)
    assert at_openai(lab) == {lab.double.admin_key_id: "double"}


def test_somebody_elses_id_is_not_believed(lab: Lab, mount: Mount) -> None:
    foreign = lab.double.add_admin_key()["id"]
    mount.define(lambda data: data["config"].update(admin_api_key_id=foreign) or True)
    assert refused(now, mount).startswith(f"admin_api_key_id: {foreign} is not the id")
    assert set(at_openai(lab)) == {lab.double.admin_key_id, foreign}


# Interrupted.


class Interruption:
    """Counts calls to OpenAI and writes to the store, and crashes before or after the n-th."""

    def __init__(self, lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at, self.after, self.events = 0, False, list[str]()
        self._lab = lab
        for owner, names in (
            (OpenAI, ("create_admin_key", "list_admin_keys", "delete_admin_key")),
            (type(mount.store), ("write",)),
        ):
            for name in names:
                monkeypatch.setattr(owner, name, self._wrap(getattr(owner, name)))

    def _wrap(self, true: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def wrapped(*args: t.Any, **kwargs: t.Any) -> t.Any:
            self.events.append(true.__name__)
            here = len(self.events) == self.at
            assert self._lab.admin_key_works(), self.events
            if here and not self.after:
                raise Crash
            result = true(*args, **kwargs)
            assert self._lab.admin_key_works(), self.events
            if here:
                raise Crash
            return result

        return wrapped

    @contextlib.contextmanager
    def crash(self, at: int, after: bool) -> t.Iterator[None]:
        self.at, self.after = at, after
        self.events.clear()
        with contextlib.suppress(Crash):
            yield
        self.at = 0


EVENTS = [
    "list_admin_keys",
    "write",
    "create_admin_key",
    "write",
    "list_admin_keys",
    "write",
    "delete_admin_key",
    "write",
]


def test_what_a_rotation_does(lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    interruption = Interruption(lab, mount, monkeypatch)
    now(mount)
    assert interruption.events == EVENTS


@pytest.mark.parametrize(
    ("how", "after"),
    [("rotate", False), ("rotate", True), ("rotate due", True), ("cleanup", True), ("dead", True), ("elsewhere", True)],
)
def test_interrupted_anywhere(
    lab: Lab, mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch, how: str, after: bool
) -> None:
    """And carried on by a rotation that is forced or only due, by a cleanup, or by one that sees a foreign intent."""
    interruption = Interruption(lab, mount, monkeypatch)
    configure(mount, rotation_period="1h")
    foreign = lab.double.add_admin_key("ephemeral-openai-openai-0123456789abcdef")["id"]
    for at in range(1, len(EVENTS) + 1):
        clock.move(3600)
        with interruption.crash(at, after):
            now(mount)
        assert len(interruption.events) == at
        assert lab.admin_key_works()
        lab.mount().openai().list_service_accounts(PROJECT)  # ordinary work goes on
        intent = lab.mount().definitions("rotation").get("intent")
        if how in ("dead", "elsewhere") and intent:
            give_rotation(mount, DEAD if how == "dead" else ELSEWHERE)
        if how == "elsewhere" and intent:
            clock.move(GRACE_SECONDS - 1)
            before = lab.mount().definitions("rotation")
            assert now(mount).busy and not clean(mount)["rotated"]
            assert lab.mount().definitions("rotation") == before
            clock.move(1)
        if how == "cleanup":
            assert clean(mount)["failed"] == []
        else:
            rotate(mount, always=how != "rotate due", overlap=0, expires_in=None, dry_run=False)
        keys = set(at_openai(lab))
        assert foreign in keys
        assert keys - {foreign} == {stored(lab)["admin_api_key_id"]}, (at, interruption.events)
        assert lab.admin_key_works()
        assert lab.mount().definitions("rotation") == {}


def test_interrupted_while_carrying_on(lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    interruption = Interruption(lab, mount, monkeypatch)
    for first in range(2, len(EVENTS) + 1):
        for second in range(1, 8):
            with interruption.crash(first, after=True):
                now(mount)
            with interruption.crash(second, after=True):
                clean(mount)
            assert lab.admin_key_works()
            clean(mount)
            agree(lab)


def test_a_dry_cleanup_foretells(lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    interruption = Interruption(lab, mount, monkeypatch)
    for at in range(2, len(EVENTS) + 1):
        with interruption.crash(at, True):
            now(mount)
        before = lab.mount().definitions("rotation"), at_openai(lab)
        foretold = clean(mount, dry_run=True)
        assert (lab.mount().definitions("rotation"), at_openai(lab)) == before
        done = clean(mount)
        assert foretold["rotated"] == done["rotated"]
        assert set(foretold["admin_api_keys"]) <= set(done["admin_api_keys"])


# Answered badly.

STEPS = {"identify": ("GET", 0), "create": ("POST", 0), "prove": ("GET", 1), "end": ("DELETE", 0)}
BAD = [
    {"kind": kind}
    for kind in ("drop_before", "drop_after", "fail_after", "malformed", "wrong_shape", "truncate", "rate_limit")
]
BAD += [{"kind": "refuse", "status": status} for status in (400, 401, 403, 404, 500, 503)]
BAD += [{"kind": "slow_after", "delay": 0.05}, {"kind": "late", "delay": 0.05}]


@pytest.mark.parametrize("times", [1, 9])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.once
def test_every_bad_answer_at_every_step(lab: Lab, mount: Mount, step: str, times: int) -> None:
    """Once, or until the call is given up."""
    method, skip = STEPS[step]
    for fault in BAD:
        lab.double.fault(**fault, method=method, path=KEYS, skip=skip, times=times, retry_after=0)
        with contextlib.suppress(OpenAICredsError):
            now(mount)
        assert lab.admin_key_works(), fault
        lab.mount().openai().list_service_accounts(PROJECT)  # ordinary work goes on
        lab.double.clear_faults()
        if fault["kind"] == "late":
            threading.Event().wait(0.2)
        if lab.mount().definitions("rotation") or fault["kind"] == "late":
            assert clean(mount)["failed"] == [], fault
        agree(lab)


def test_a_refused_create_is_said(lab: Lab, mount: Mount) -> None:
    lab.double.fault(kind="refuse", status=403, method="POST", path=KEYS)
    assert refused(now, mount).startswith("admin key creation failed: OpenAI answered 403")
    assert mount.definitions("rotation") == {}


def test_a_key_that_openai_does_not_know_yet_is_proved_later(lab: Lab, mount: Mount, clock: Clock) -> None:
    lab.double.fault(kind="refuse", status=401, method="GET", path=KEYS, skip=1)
    assert "stored but not proved to work" in refused(now, mount)
    assert stored(lab)["admin_api_key"] == lab.double.admin_key
    clock.move(WATCH_SECONDS - 2)
    assert clean(mount)["failed"] and len(at_openai(lab)) == 2, "neither is deleted"
    lab.double.clear_faults()
    assert clean(mount)["rotated"]
    agree(lab)


def test_a_key_that_openai_never_comes_to_know_is_given_up(lab: Lab, mount: Mount, clock: Clock) -> None:
    lab.double.fault(kind="refuse", status=401, method="GET", path=KEYS, skip=1)
    refused(now, mount)
    clock.move(WATCH_SECONDS)
    assert "the new admin key does not work" in refused(now, mount)
    assert stored(lab)["admin_api_key"] == lab.double.admin_key
    lab.double.clear_faults()
    agree(lab)


@pytest.mark.parametrize("status", [400, 403])
def test_a_key_that_does_not_work_is_not_switched_to(lab: Lab, mount: Mount, status: int) -> None:
    lab.double.fault(kind="refuse", status=status, method="GET", path=KEYS, skip=1, times=1)
    assert "the new admin key does not work" in refused(now, mount)
    assert stored(lab)["admin_api_key"] == lab.double.admin_key
    agree(lab)


def test_a_key_just_replaced_that_openai_does_not_find_is_deleted_all_the_same(lab: Lab, mount: Mount) -> None:
    assert now(mount).rotated
    lab.double.settings(young_not_found=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_UNKNOWN_WAITS", (0.3,))
        assert now(mount).ended
    assert len(at_openai(lab)) == 1
    agree(lab)


def test_a_key_that_openai_knows_a_moment_later(lab: Lab, mount: Mount) -> None:
    lab.double.fault(kind="refuse", status=401, method="GET", path=KEYS, skip=1, times=2)
    assert now(mount).rotated
    agree(lab)


def test_a_key_that_cannot_be_proved_waits(lab: Lab, mount: Mount) -> None:
    lab.double.fault(kind="refuse", status=503, method="GET", path=KEYS, skip=1)
    assert "the next rotation or cleanup carries on" in refused(now, mount)
    assert stored(lab)["admin_api_key"] == lab.double.admin_key and len(at_openai(lab)) == 2
    lab.double.clear_faults()
    assert rotate(mount, always=False, overlap=0, expires_in=None, dry_run=False).rotated
    agree(lab)


def test_the_new_key_saves_the_mount_if_the_old_one_dies_meanwhile(lab: Lab, mount: Mount) -> None:
    lab.double.fault(kind="refuse", status=503, method="GET", path=KEYS, skip=1)
    refused(now, mount)
    lab.double.clear_faults()
    mount.openai().delete_admin_key(lab.double.admin_key_id)
    assert not lab.admin_key_works()
    assert clean(mount)["rotated"]
    agree(lab)


def test_a_late_key_is_found_and_foreign_ones_stay(lab: Lab, mount: Mount, clock: Clock) -> None:
    foreign = lab.double.add_admin_key("ephemeral-openai-openai-0123456789abcdef")["id"]
    lab.double.fault(kind="drop_before", method="POST", path=KEYS, times=1)
    refused(now, mount)
    (watch,) = mount.store.scan("watches/")
    late = lab.double.add_admin_key(watch.data["thing"]["name"])["id"]
    clock.move(WATCH_SECONDS - 1)
    assert clean(mount)["admin_api_keys"] == [late]
    assert set(at_openai(lab)) == {lab.double.admin_key_id, foreign}
    assert mount.definitions("rotation") == {}


def test_a_name_is_looked_for_for_a_while_only(lab: Lab, mount: Mount, clock: Clock) -> None:
    lab.double.fault(kind="drop_before", method="POST", path=KEYS, times=1)
    refused(now, mount)
    assert len(list(mount.store.scan("watches/"))) == 1
    clock.move(WATCH_SECONDS)
    clean(mount)
    assert list(mount.store.scan("watches/")) == []
    since = lab.double.mark()
    clean(mount)
    assert lab.double.requests(since) == []


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_store_that_cannot_be_written(lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    write, count = type(mount.store).write, 0

    def full(self: Store, *args: t.Any) -> None:
        nonlocal count
        count += 1
        if count >= at:
            raise StoreError("store_path: cannot write: the disk is full")
        write(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(type(mount.store), "write", full)
        assert "the disk is full" in refused(now, mount)
    assert lab.admin_key_works()
    clean(mount)
    agree(lab)


@pytest.mark.parametrize("landed", [True, False])
def test_a_store_that_does_not_say_whether_it_has_kept_the_new_key(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    write, count = type(mount.store).write, 0

    def unsure(self: Store, *args: t.Any) -> None:
        nonlocal count
        count += 1
        if count != 2 or landed:
            write(self, *args)
        if count == 2:
            raise StoreError("url: Vault cannot answer now", may_have_happened=True)

    with monkeypatch.context() as patch:
        patch.setattr(type(mount.store), "write", unsure)
        if landed:
            assert now(mount).rotated
        else:
            assert "cannot answer now" in refused(now, mount)
    assert lab.admin_key_works()
    clean(mount)
    agree(lab)
    assert mount.definitions("rotation") == {}


# Overlap, and keys that will not go.


def test_an_overlap(lab: Lab, mount: Mount, clock: Clock) -> None:
    old = lab.double.admin_key_id
    assert now(mount, overlap=3600).ended == []
    shown = public_config(mount, lab.mount().config())
    assert shown and shown["previous_admin_api_key_id"] == old
    clock.move(3599)
    assert clean(mount)["admin_api_keys"] == [] and old in at_openai(lab)
    clock.move(1)
    assert clean(mount, dry_run=True)["admin_api_keys"] == [old] and old in at_openai(lab)
    assert clean(mount)["admin_api_keys"] == [old]
    agree(lab)
    shown = public_config(mount, lab.mount().config())
    assert shown and shown["previous_admin_api_key_id"] is None and shown["previous_admin_api_keys"] == []


def test_a_rotation_ends_an_overlap_too(lab: Lab, mount: Mount, clock: Clock) -> None:
    now(mount, overlap=60)
    clock.move(60)
    report = rotate(mount, always=False, overlap=0, expires_in=None, dry_run=False)
    assert (report.rotated, report.changed, report.ended) == (False, True, [lab.double.admin_key_id])
    agree(lab)


def test_each_overlap_is_kept(lab: Lab, mount: Mount, clock: Clock) -> None:
    now(mount, overlap=3600)
    now(mount, overlap=60)
    assert len(at_openai(lab)) == 3
    clock.move(60)
    clean(mount)
    assert set(at_openai(lab)) == {lab.double.admin_key_id, stored(lab)["admin_api_key_id"]}
    clock.move(3540)
    clean(mount)
    agree(lab)


def test_a_key_that_will_not_go(lab: Lab, mount: Mount, clock: Clock) -> None:
    old = lab.double.admin_key_id
    lab.double.fault(kind="refuse", status=403, method="DELETE", path=KEYS)
    report = now(mount)
    assert report.rotated and set(report.failed) == {old}
    for attempts in (2, 3):
        result = clean(mount)
        assert result["failed"][0]["admin_api_key_id"] == old and "403" in result["failed"][0]["error"]
        shown = public_config(mount, lab.mount().config())
        assert shown and shown["previous_admin_api_key_id"] == old
        assert shown["previous_admin_api_keys"][0]["attempts"] == attempts
        since = lab.double.mark()
        assert clean(mount)["failed"] == result["failed"], "it is still said, and not yet tried again"
        assert lab.double.requests(since) == []
        clock.move(3600)
    lab.double.clear_faults()
    assert clean(mount)["failed"] == []
    agree(lab)


def test_a_404_from_something_else_is_not_gone(lab: Lab, mount: Mount) -> None:
    lab.double.fault(kind="refuse", status=404, method="DELETE", path=KEYS)
    assert now(mount).failed
    lab.double.clear_faults()
    clean(mount)
    agree(lab)


# Several.


def test_a_live_rotation_is_left_alone(lab: Lab, mount: Mount) -> None:
    parent = process_of(os.getppid())
    begin_rotation(mount, parent)
    since = lab.double.mark()
    assert now(mount) == Report(busy=True)
    assert rotate(mount, always=False, overlap=0, expires_in=None, dry_run=False) == Report()
    assert adopt(mount, **adoptee(lab), overlap=0, dry_run=False) == Report(busy=True)
    assert clean(mount)["failed"] == []
    assert lab.double.requests(since) == []


def test_a_clock_that_was_set_back_holds_nothing(lab: Lab, mount: Mount, clock: Clock) -> None:
    begin_rotation(mount, ELSEWHERE)
    clock.move(-86400)
    assert now(mount).rotated


def test_ten_threads_at_once_rotate_once(lab: Lab, mount: Mount, clock: Clock) -> None:
    configure(mount, rotation_period="1h")
    clock.move(3600)
    lab.double.settings(latency=0.02)
    reports: list[Report] = []

    def one() -> None:
        reports.append(rotate(lab.mount(clock=clock), always=False, overlap=0, expires_in=None, dry_run=False))

    threads = [threading.Thread(target=one) for _unused in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.rotated for report in reports].count(True) == 1
    agree(lab)


@dataclasses.dataclass
class Slow:
    """Something that happens while a rotation is at one of its calls."""

    monkeypatch: pytest.MonkeyPatch

    def during(self, method: str, act: t.Callable[[], None], *, call: int = 1, after: bool = True) -> None:
        true, count = getattr(OpenAI, method), 0

        def slow(self: OpenAI, *args: t.Any) -> t.Any:
            nonlocal count
            count += 1
            mine = count == call
            if mine and not after:
                act()
            result = true(self, *args)
            if mine and after:
                act()
            return result

        self.monkeypatch.setattr(OpenAI, method, slow)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(monkeypatch)


@pytest.mark.parametrize("after", [False, True])
def test_another_rotation_comes_first(lab: Lab, mount: Mount, slow: Slow, after: bool) -> None:
    slow.during("list_admin_keys", lambda: now(lab.mount()) and None, call=1, after=after)
    assert now(mount) == Report(busy=True)
    agree(lab)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("method", "call"), [("create_admin_key", 1), ("list_admin_keys", 2)])
def test_a_rotation_that_was_taken_for_dead(
    lab: Lab, mount: Mount, slow: Slow, clock: Clock, method: str, call: int, after: bool
) -> None:
    """On another controller a cleanup takes over; the slow one then finds out, and takes back what nobody else has."""

    def take_over() -> None:
        give_rotation(mount, ELSEWHERE)
        clock.move(GRACE_SECONDS)
        assert clean(lab.mount(clock=clock))["failed"] == []

    slow.during(method, take_over, call=call, after=after)
    assert "somebody else has taken it over" in refused(now, mount)
    assert lab.admin_key_works()
    clean(mount)
    agree(lab)


# Other changes at the same time.


def adoptee(lab: Lab) -> dict[str, str]:
    key = lab.double.add_admin_key("made elsewhere")
    return {"value": key["value"], "key_id": key["id"]}


@pytest.mark.parametrize("step", ["create_admin_key", "list_admin_keys"])
def test_a_person_replaces_the_key_after_a_rotation_was_interrupted(
    lab: Lab, mount: Mount, crash: t.Callable[..., t.ContextManager[None]], step: str
) -> None:
    mine = adoptee(lab)
    mount.define(lambda data: data["config"].update(admin_api_key_id=lab.double.admin_key_id) or True)
    if step == "create_admin_key":
        with crash(step, after=True):
            now(mount)
    else:
        lab.double.fault(kind="refuse", status=503, method="GET", path=KEYS, skip=1)
        refused(now, mount)
        lab.double.clear_faults()
    configure(mount, admin_api_key=mine["value"], admin_api_key_id=mine["key_id"], replace_key=True)
    assert clean(mount)["failed"] == []
    assert stored(lab)["admin_api_key"] == mine["value"]
    assert lab.admin_keys() == {mine["key_id"], lab.double.admin_key_id}
    assert mount.definitions("rotation") == {}


def test_a_key_is_adopted_though_a_rotation_cannot_be_carried_on(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = adoptee(lab)
    lab.double.fault(kind="refuse", status=503, method="GET", path=KEYS, skip=1)
    refused(now, mount)
    lab.double.clear_faults()

    def unproved(*_args: t.Any) -> None:
        raise Uncertain("not proved")

    with monkeypatch.context() as patch:
        patch.setattr(AdminKeyMaking, "_prove", unproved)
        assert adopt(mount, **mine, overlap=0, dry_run=False).rotated
    assert clean(mount)["failed"] == []
    agree(lab)


@pytest.mark.parametrize(("method", "call"), [("create_admin_key", 1), ("list_admin_keys", 2)])
def test_a_person_replaces_the_key_during_a_rotation(
    lab: Lab, mount: Mount, slow: Slow, method: str, call: int
) -> None:
    mine = adoptee(lab)

    def replace_key() -> None:
        configure(lab.mount(), admin_api_key=mine["value"], replace_key=True, validate=False)
        configure(lab.mount(), admin_api_key_id=mine["key_id"], validate=False)

    slow.during(method, replace_key, call=call)
    assert "replaced by openai_config while it was rotated" in refused(now, mount)
    assert stored(lab)["admin_api_key"] == mine["value"]
    clean(mount)
    # The key that a person replaces is that person's.
    assert set(at_openai(lab)) == {mine["key_id"], lab.double.admin_key_id}
    assert mount.definitions("rotation") == {}


def test_other_changes_during_a_rotation_are_kept(lab: Lab, mount: Mount, slow: Slow) -> None:
    slow.during("create_admin_key", lambda: configure(lab.mount(), rotation_period="9h") and None)
    assert now(mount).rotated
    assert stored(lab)["rotation_period"] == 9 * 3600
    agree(lab)


@pytest.mark.parametrize("after", [False, True])
def test_a_rotation_during_openai_config(lab: Lab, mount: Mount, slow: Slow, after: bool) -> None:
    slow.during("list_admin_keys", lambda: now(lab.mount()) and None, call=1, after=after)
    configure(mount, organization_id=lab.double.organization, rotation_period="9h")
    assert stored(lab)["rotation_period"] == 9 * 3600
    agree(lab)


def test_a_mount_is_forgotten_by_force_during_a_rotation(lab: Lab, mount: Mount, slow: Slow) -> None:
    assert "still has a rotation" in mid_rotation(lab, mount, slow)
    assert set(at_openai(lab)) == {lab.double.admin_key_id}
    assert lab.mount().definitions("config") == {} == lab.mount().definitions("rotation")


def mid_rotation(lab: Lab, mount: Mount, slow: Slow) -> str:
    texts = []

    def forget() -> None:
        texts.append(refused(delete_config, lab.mount(), force=False, dry_run=False))
        delete_config(lab.mount(), force=True, dry_run=False)

    slow.during("list_admin_keys", forget, call=2)
    refused(now, mount)
    return texts[0]


def test_a_mount_with_an_overlap_stays_and_does_not_move(lab: Lab, mount: Mount) -> None:
    now(mount, overlap=60)
    assert "still has a rotation" in refused(delete_config, mount, force=False, dry_run=False)
    assert "still has a rotation" in refused(delete_config, mount, force=False, dry_run=True)
    assert refused(configure, mount, organization_id="org-x").startswith("organization_id: a mount cannot move")
    outcome = delete_config(mount, force=True, dry_run=False)
    assert all(key_id in outcome.warnings[0] for key_id in at_openai(lab))


def test_the_bootstrap_key_is_not_put_back(lab: Lab, mount: Mount) -> None:
    original = {"admin_api_key": lab.double.admin_key, "admin_api_key_id": lab.double.admin_key_id}
    now(mount, overlap=60)
    rotated = stored(lab)
    assert not configure(mount, **original).changed
    assert not configure(mount, admin_api_key_id=lab.double.admin_key_id).changed
    assert stored(lab) == rotated
    for options in ({**original}, {"admin_api_key": lab.double.admin_key, "validate": False}):
        text = refused(configure, mount, replace_key=True, **options)
        assert text.startswith("admin_api_key: this key was rotated away")
    assert stored(lab) == rotated


def test_the_id_of_a_key_that_a_person_put_in_can_be_given_later(lab: Lab, mount: Mount) -> None:
    now(mount)
    mine = adoptee(lab)
    configure(mount, admin_api_key=mine["value"], replace_key=True, validate=False)
    assert stored(lab)["admin_api_key_id"] is None
    configure(mount, admin_api_key_id=mine["key_id"])
    clean(mount)
    agree(lab)


def test_a_key_of_ours_that_a_person_replaces_ends(lab: Lab, mount: Mount) -> None:
    now(mount)
    mine = adoptee(lab)
    configure(mount, admin_api_key=mine["value"], admin_api_key_id=mine["key_id"], replace_key=True)
    assert len(at_openai(lab)) == 2
    clean(mount)
    assert set(at_openai(lab)) == {mine["key_id"]}
    agree(lab)


# Adoption.


def test_a_key_is_adopted(lab: Lab, mount: Mount, clock: Clock) -> None:
    mine, old = adoptee(lab), lab.double.admin_key_id
    assert adopt(mount, **mine, overlap=60, dry_run=False) == Report(rotated=True, changed=True, replaced=old)
    assert (stored(lab)["admin_api_key"], stored(lab)["admin_api_key_id"]) == (mine["value"], mine["key_id"])
    assert stored(lab)["last_rotated"] == clock()
    assert adopt(mount, **mine, overlap=60, dry_run=False) == Report()
    clock.move(60)
    clean(mount)
    agree(lab)
    assert now(mount).replaced == mine["key_id"]
    agree(lab)


def test_a_key_that_cannot_be_adopted(lab: Lab, mount: Mount) -> None:
    before, mine = stored(lab), adoptee(lab)
    foreign = lab.double.add_admin_key()["id"]
    options = {"overlap": 0, "dry_run": False}
    text = refused(adopt, mount, "sk-admin-of-nobody-0123456789", mine["key_id"], **options)
    assert text.startswith("new_admin_api_key: it does not work: OpenAI answered 401")
    for wrong in (foreign, "key_none", lab.double.admin_key_id):
        text = refused(adopt, mount, mine["value"], wrong, **options)
        assert text.startswith("new_admin_api_key_id:")
    assert refused(adopt, mount, mine["value"], "../x", **options).startswith("new_admin_api_key_id:")
    assert refused(adopt, mount, "two words", mine["key_id"], **options).startswith("new_admin_api_key:")
    assert stored(lab) == before
    now(mount, overlap=60)
    text = refused(adopt, mount, lab.double.admin_key, lab.double.admin_key_id, **options)
    assert text.startswith("new_admin_api_key: this key was rotated away")


@pytest.mark.parametrize("adopted", [True, False])
@pytest.mark.parametrize("times", [2, 3])
def test_a_key_made_a_moment_ago_may_not_work_yet(lab: Lab, mount: Mount, adopted: bool, times: int) -> None:
    mine = adoptee(lab)
    since = lab.double.mark()
    lab.double.fault(kind="refuse", status=401, method="GET", path=KEYS, times=times)

    def bring() -> None:
        if adopted:
            adopt(mount, **mine, overlap=0, dry_run=False)
        else:
            configure(mount, admin_api_key=mine["value"], replace_key=True)

    if times == 2:
        bring()
        assert stored(lab)["admin_api_key"] == mine["value"]
    else:
        assert "OpenAI answered 401" in refused(bring)
        assert len(lab.double.requests(since)) == times, "it is not tried for ever"
        assert stored(lab)["admin_api_key"] == lab.double.admin_key


def test_a_key_that_is_not_new_is_not_waited_for(lab: Lab, mount: Mount) -> None:
    since = lab.double.mark()
    assert "OpenAI answered 401" in refused(configure, mount, organization_id="org-x")
    assert len(lab.double.requests(since)) == 1


def test_a_key_is_adopted_when_the_old_one_is_dead(lab: Lab, mount: Mount) -> None:
    mine = adoptee(lab)
    mount.openai().delete_admin_key(lab.double.admin_key_id)
    assert adopt(mount, **mine, overlap=0, dry_run=False).rotated
    agree(lab)


# Work in flight.


def test_work_that_began_with_the_old_key_goes_on(lab: Lab, mount: Mount) -> None:
    began = lab.mount()
    openai = began.openai()
    now(mount)
    since = lab.double.mark()
    assert len(openai.list_admin_keys()) == 1
    openai.create_service_account("proj_lab", "in-flight", None)
    assert [request["status"] for request in lab.double.requests(since)] == [401, 200, 200]


def test_a_key_that_is_refused_and_not_rotated_away_is_not_tried_again(lab: Lab, mount: Mount) -> None:
    openai = mount.openai()
    openai.delete_admin_key(lab.double.admin_key_id)
    since = lab.double.mark()
    with pytest.raises(ApiError):
        openai.list_admin_keys()
    assert len(lab.double.requests(since)) == 1
