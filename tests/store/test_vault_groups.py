# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents that share a secret in Vault: many writers, lost answers, crashes, and what is left of those that have ended."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
import secrets
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

import hvac
import pytest
from gateway import Opened, Proxy, base_of
from surveys import Summary, summary
from surveys import due as due_of

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import Conflict
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.names import base36, random_text
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store import vault_pool
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Write, bucket, readable
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.shrinking import unshrink
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_group import GROUP_SIZE, place_of
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_kv import VaultKVStore

if t.TYPE_CHECKING:
    from bao import Bao

pytestmark = pytest.mark.once
FORK = multiprocessing.get_context("fork")
NOW = int(time.time())
DUE = NOW + 7200
FOLDER = f"leases/{bucket(DUE)}"


def secrets_of(bao: Bao, store: VaultKVStore, folder: str = FOLDER) -> list[str]:
    """Return the names of all secrets in a folder."""
    try:
        answer = bao.client().secrets.kv.v2.list_secrets(f"{base_of(store)}/{folder}", mount_point="secret")
    except hvac.exceptions.InvalidPath:
        return []
    return sorted(answer["data"]["keys"])


def a_group(store: VaultKVStore, count: int, due: int = DUE) -> list[str]:
    """Write a group of documents; returns their paths."""
    group = random_text(8)
    paths = [f"{FOLDER}/{group}-{random_text(11)}" for _unused in range(count)]
    if count == 1:
        paths = [f"{FOLDER}/{store.new_key(FOLDER, due)}"]
    store.receive(*(Write(path, {"n": 1}, 0, due) for path in paths))
    return paths


def increment(store: VaultKVStore, path: str, times: int = 1) -> None:
    done = 0
    while done < times:
        document = store.read(path)
        assert document
        try:
            store.write(Write(path, {"n": document.data["n"] + 1}, document.version, DUE))
        except Conflict:
            time.sleep(random.uniform(0, 0.01))
            continue
        done += 1


def requests_of(act: t.Callable[[], t.Any], proxy: Proxy) -> int:
    proxy.seen.clear()
    act()
    return len(proxy.seen)


def test_documents_of_a_group_are_one_secret_and_written_and_read_at_once(
    opened: Opened, proxy: Proxy, bao: Bao
) -> None:
    store = opened()
    store.check_rights()
    paths = [f"{FOLDER}/{store.new_key(FOLDER, DUE)}" for _unused in range(40)]
    assert requests_of(lambda: store.write(*(Write(path, {}, 0, DUE) for path in paths)), proxy) == 1
    assert len(secrets_of(bao, store)) == 1
    assert requests_of(lambda: list(store.read_each(paths)), proxy) == 1
    assert requests_of(lambda: store.delete(*paths[:20]), proxy) == 2
    assert {one.path for one in opened().scan("leases/")} == set(paths[20:])
    assert {one.path for one in opened().read_each(paths)} == set(paths[20:])


def test_a_group_is_compressed(opened: Opened, bao: Bao) -> None:
    """All of it goes with each write, and leases differ little from each other."""
    store = opened()
    data = {"project_id": "proj_lab", "api_endpoint": "https://api.openai.com/v1", "issued_by": {"user": "ansible"}}
    paths = [f"{FOLDER}/{store.new_key(FOLDER, DUE)}" for _unused in range(40)]
    store.write(*(Write(path, data, 0, DUE) for path in paths))
    place = f"{base_of(store)}/{place_of(paths[0])}"
    fields = bao.client().secrets.kv.v2.read_secret_version(place, mount_point="secret")["data"]["data"]
    assert len(fields["data"]) < 40 * len(json.dumps(data)) / 2
    assert [one.data for one in readable(opened().read_each(paths))] == [data] * 40


def test_two_processes_write_one_group_at_once(opened: Opened, bao: Bao) -> None:
    """They never conflict over different documents, and each write of the same one counts once."""
    store = opened()
    shared, *own = a_group(store, 5)
    failures = FORK.SimpleQueue()

    def work(number: int) -> None:
        try:
            mine = opened()
            for _unused in range(10):
                document = mine.read(own[number])
                assert document
                # Not tried again: nobody else writes this one.
                mine.write(Write(own[number], {"n": document.data["n"] + 1}, document.version, DUE))
                increment(mine, shared)
        except BaseException as error:  # noqa: BLE001 - it is reported
            failures.put(repr(error))

    processes = [FORK.Process(target=work, args=(number,)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert failures.empty(), failures.get()
    found = {one.path: one.data["n"] for one in opened().scan("leases/")}
    assert found == {shared: 41, **dict.fromkeys(own, 11)}
    assert len(secrets_of(bao, store)) == 1


@pytest.mark.parametrize("others", [1, 30, 90])
@pytest.mark.parametrize("also_mine", [True, False])
def test_a_write_whose_answer_got_lost_is_found_below_later_ones_of_the_group(
    opened: Opened, proxy: Proxy, others: int, also_mine: bool
) -> None:
    """Others have written the same secret since, and perhaps the same document: it counts once all the same."""
    store, other = opened(), opened()
    mine, theirs = a_group(store, 2)
    assert other.read(mine) and store.read(mine)
    take, state = proxy.take, {"posts": 0}

    def lost_then_overtaken(request: str) -> t.Any:
        if not request.startswith("POST /v1/secret/data") or state["posts"] > 1:
            return None
        state["posts"] += 1
        if state["posts"] == 1:
            return "lose"
        for number in range(others):
            increment(other, mine if also_mine and number % 2 == 0 else theirs)
        return None

    proxy.take = lost_then_overtaken  # type: ignore[method-assign]
    store.write(Write(mine, {"n": 2}, 1, DUE))
    proxy.take = take  # type: ignore[method-assign]
    assert state["posts"] == 2
    found = {one.path: (one.data["n"], one.version) for one in opened().scan("leases/")}
    on_mine = (others + 1) // 2 if also_mine else 0
    assert found == {mine: (2 + on_mine,) * 2, theirs: (1 + others - on_mine,) * 2}


def test_a_write_that_was_refused_and_whose_answer_got_lost_is_a_conflict(opened: Opened, proxy: Proxy) -> None:
    store, other = opened(), opened()
    mine, _theirs = a_group(store, 2)
    increment(other, mine)
    proxy.faults = [("POST /v1/secret/data", "lose", 1)]
    with pytest.raises(Conflict):
        store.write(Write(mine, {"n": "wrong"}, 1, DUE))
    document = opened().read(mine)
    assert document and document.data == {"n": 2}


def test_a_new_document_whose_answer_got_lost_is_there_once(opened: Opened, proxy: Proxy) -> None:
    store = opened()
    for fault in ("lose", "cut"):
        for _unused in range(2):
            path = f"{FOLDER}/{store.new_key(FOLDER, DUE)}"
            proxy.faults = [("POST /v1/secret/data", fault, 2)]
            store.write(Write(path, {}, 0, DUE))
            document = opened().read(path)
            assert document and document.version == 1
    assert len(list(opened().scan("leases/"))) == 4


def test_a_deletion_whose_answer_got_lost_takes_nothing_else_along(opened: Opened, proxy: Proxy) -> None:
    store, other = opened(), opened()
    mine, theirs = a_group(store, 2)
    for method in ("POST /v1/secret/data", "DELETE"):
        proxy.faults = [(method, "lose", 2)]
        store.delete(mine)
        assert [one.path for one in other.scan("leases/")] == [theirs]
    proxy.faults = [("DELETE", "lose", 2)]
    store.delete(theirs)
    assert list(other.scan("leases/")) == []


def test_removing_the_last_document_never_takes_a_new_one_along(opened: Opened, bao: Bao) -> None:
    """One that was to join the group has a secret of its own then."""
    store, joiner = opened(), opened()
    (last,) = a_group(store, 1)
    group = last.rpartition("/")[2].partition("-")[0]
    joined = f"{FOLDER}/{group}-{random_text(11)}"
    change = store._groups._change

    def overtaken(*args: t.Any) -> t.Any:
        store._groups._change = change  # type: ignore[method-assign]
        joiner.write(Write(joined, {"n": 1}, 0, DUE))
        return change(*args)

    store._groups._change = overtaken  # type: ignore[method-assign]
    store.delete(last)
    assert [one.path for one in opened().scan("leases/")] == [joined]
    remove = store._groups.remove
    late = f"{FOLDER}/{group}-{random_text(11)}"

    def after_closing(*args: t.Any) -> None:
        joiner.write(Write(late, {"n": 1}, 0, DUE))
        remove(*args)

    store._groups.remove = after_closing  # type: ignore[method-assign]
    store.delete(joined)
    assert opened().read(joined) is None
    document = opened().read(late)
    assert document and document.data == {"n": 1}
    assert summary(opened(), "leases/") == Summary(1, DUE)
    assert due_of(opened(), "leases/", DUE)[0].path == late
    opened().write(Write(late, {"n": 2}, 1, DUE + 1))
    opened().delete(late)
    assert secrets_of(bao, store) == []


def ending(store: VaultKVStore, *paths: str, due: int = DUE) -> None:
    """Say that documents are about to be deleted."""
    documents = list(readable(store.read_each(paths)))
    store.write(*(Write(one.path, one.data, one.version, due, ends=True) for one in documents))


@pytest.mark.parametrize("count", [1, 5])
def test_removing_a_closed_group_never_takes_a_new_document_along(opened: Opened, bao: Bao, count: int) -> None:
    """What comes after all others were said to end has a secret of its own."""
    store = opened()
    paths = a_group(store, count)
    late = f"{FOLDER}/{place_of(paths[0]).rpartition('/')[2]}{random_text(11)}"  # type: ignore[union-attr]
    ending(store, *paths)
    opened().write(Write(late, {"n": 1}, 0, DUE))
    store.delete(*paths)
    document = opened().read(late)
    assert document and document.data == {"n": 1}
    assert [one.path for one in opened().scan("leases/")] == [late]
    opened().delete(late)
    assert secrets_of(bao, store) == []


def test_a_group_that_somebody_has_joined_meanwhile_is_not_closed(opened: Opened, bao: Bao) -> None:
    store = opened()
    paths = a_group(store, 3)
    joined = f"{FOLDER}/{place_of(paths[0]).rpartition('/')[2]}{random_text(11)}"  # type: ignore[union-attr]
    documents = list(readable(store.read_each(paths)))
    opened().write(Write(joined, {"n": 1}, 0, DUE))
    store.write(*(Write(one.path, one.data, one.version, DUE, ends=True) for one in documents))
    store.delete(*paths)
    assert [one.path for one in opened().scan("leases/")] == [joined]
    assert len(secrets_of(bao, store)) == 1


def test_a_closed_group_of_which_some_stay_keeps_them(opened: Opened, bao: Bao) -> None:
    """OpenAI may have refused to end them."""
    store = opened()
    paths = a_group(store, 3)
    ending(store, *paths)
    store.delete(*paths[1:])
    assert [one.path for one in opened().scan("leases/")] == paths[:1]
    opened().delete(*paths)
    assert secrets_of(bao, store) == []


def test_nobody_of_a_run_takes_up_a_group_that_has_closed(opened: Opened, bao: Bao) -> None:
    store = opened()
    (last,) = a_group(store, 1)
    ending(store, last)
    for _unused in range(3):
        store.write(Write(f"{FOLDER}/{store.new_key(FOLDER, DUE)}", {}, 0, DUE))
    groups = secrets_of(bao, store)
    assert len(groups) == 2
    assert all(name.endswith("-") for name in groups)


def test_a_closed_group_with_a_seal_leaves_nothing(opened: Opened, bao: Bao) -> None:
    store = opened()
    paths = [f"{FOLDER}/{store.new_key(FOLDER, DUE)}" for _unused in range(GROUP_SIZE)]
    store.write(*(Write(path, {}, 0, DUE) for path in paths))
    assert len(secrets_of(bao, store)) == 2
    ending(opened(), *paths)
    assert summary(opened(), "leases/").count == GROUP_SIZE
    opened().delete(*paths)
    assert secrets_of(bao, store) == []


def test_what_goes_elsewhere_is_written_also_if_the_answer_for_the_rest_got_lost(opened: Opened, proxy: Proxy) -> None:
    store = opened()
    (path,) = a_group(store, 1)
    ending(store, path)
    late = f"{place_of(path)}{random_text(11)}"
    proxy.faults = [("POST /v1/secret/data", "lose", 1)]
    store.write(Write(path, {"n": 2}, 2, DUE), Write(late, {"n": 1}, 0, DUE))
    assert {one.path: one.data["n"] for one in opened().scan("leases/")} == {path: 2, late: 1}


def test_a_group_that_has_gone_is_not_begun_again(opened: Opened, bao: Bao) -> None:
    """Somebody may still be about to remove it. What comes from another store as a group is one."""
    store, slow = opened(), opened()
    paths = a_group(store, 2)
    ending(slow, *paths)
    opened().delete(*paths)
    late = [f"{place_of(paths[0])}{random_text(11)}" for _unused in range(2)]
    opened().write(*(Write(path, {}, 0, DUE) for path in late))
    slow.delete(*paths)
    assert sorted(one.path for one in opened().scan("leases/")) == sorted(late)
    group = random_text(8)
    moved = [f"{FOLDER}/{group}-{random_text(11)}" for _unused in range(2)]
    opened().receive(*(Write(path, {}, 0, DUE) for path in moved))
    # Two of those that came late, with a name each, and what was moved.
    assert len(secrets_of(bao, store)) == 5


@pytest.mark.parametrize("requests", range(6))
def test_a_closed_group_with_a_seal_is_never_left_with_a_seal_that_is_not_true(opened: Opened, requests: int) -> None:
    """Whoever removes it may be killed after each request."""
    store = opened()
    paths = [f"{FOLDER}/{store.new_key(FOLDER, DUE)}" for _unused in range(GROUP_SIZE)]
    store.write(*(Write(path, {}, 0, DUE) for path in paths))
    # Ended early, so that the seal is not true any more.
    ending(store, *paths, due=0)
    dying = opened()
    assert dying.read(paths[0])
    dies_after(dying, requests)
    with contextlib.suppress(KeyboardInterrupt):
        dying.delete(*paths)
    survey = opened().survey("leases/", NOW, tidy=True)
    assert (len(list(survey.due)), survey.later) in ((GROUP_SIZE, 0), (0, 0))


# Seals


def dies_after(store: VaultKVStore, allowed: int) -> None:
    """Let a store make so many requests and no more."""
    request, left = store._engine._request, [allowed]

    def dying(*args: t.Any, **options: t.Any) -> t.Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return request(*args, **options)

    store._engine._request = dying  # type: ignore[method-assign]


def test_a_full_group_is_not_opened_before_it_is_due(opened: Opened, proxy: Proxy) -> None:
    store = opened()
    paths = a_group(store, GROUP_SIZE)
    fresh = opened()
    fresh.check_rights()
    proxy.seen.clear()
    assert summary(fresh, "leases/") == Summary(GROUP_SIZE, DUE)
    assert all("list=true" in request for request, _headers in proxy.seen)
    assert sorted(one.path for one in due_of(fresh, "leases/", DUE)) == sorted(paths)
    # A change of one is seen by those who look for what is due.
    store.write(Write(paths[0], {"n": 2}, 1, NOW))
    assert [one.path for one in due_of(opened(), "leases/", NOW)] == paths[:1]
    survey = opened().survey("leases/", NOW, tidy=True)
    assert len(list(survey.due)) == 1 and (survey.later, survey.next_due) == (GROUP_SIZE - 1, DUE)


def seal_again(store: VaultKVStore, place: str | None) -> None:
    """Seal a group as a survey does."""
    assert place
    start = f"{place.rpartition('/')[2]}."
    beside = [name.removeprefix(start) for name in store._engine.names(f"{FOLDER}/") if name.startswith(start)]
    group = store._groups.load(place)
    assert group
    store._groups.seal(group, beside)


def dues(store: VaultKVStore, place: str | None) -> dict[str, int]:
    """Return when each document of a group is due, according to the group itself."""
    group = store._groups.load(str(place))
    return {document.path: due for document, due in group.documents()} if group else {}


CHANGES: dict[str, t.Callable[[VaultKVStore, list[str]], None]] = {
    "sooner": lambda store, paths: store.write(Write(paths[0], {"n": 2}, 1, NOW)),
    "later": lambda store, paths: store.write(*(Write(path, {"n": 2}, 1, DUE + 5000) for path in paths)),
    "one more": lambda store, paths: store.write(
        Write(f"{paths[0].rpartition('-')[0]}-{random_text(11)}", {"n": 1}, 0, NOW)
    ),
    "one less": lambda store, paths: store.delete(paths[0]),
    "none left": lambda store, paths: store.delete(*paths),
    "sealed anew": lambda store, paths: seal_again(store, place_of(paths[0])),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
@pytest.mark.parametrize("first", [None, "later"])
def test_a_crash_between_a_name_and_its_group_hides_nothing(
    opened: Opened, bao: Bao, change: str, first: str | None
) -> None:
    """After any number of requests of a change, what a survey says is what there is: never too late, and exactly counted."""
    finished = False
    for allowed in range(12):
        store = opened()
        paths = a_group(store, GROUP_SIZE)
        if first:
            if change in ("sooner", "later"):
                continue
            CHANGES[first](opened(), paths)
        store = opened()
        dies_after(store, allowed)
        try:
            CHANGES[change](store, paths)
            finished = True
        except KeyboardInterrupt:
            pass
        fresh = opened()
        truth = dues(fresh, place_of(paths[0]))
        for now in (NOW, DUE, DUE + 5000):
            survey = opened().survey("leases/", now, tidy=False)
            assert sorted(one.path for one in survey.due) == sorted(  # type: ignore[union-attr]
                path for path, due in truth.items() if due <= now
            ), (change, allowed)
            later = [due for due in truth.values() if due > now]
            assert survey.later == len(later)
            assert survey.next_due == min(later, default=None)
        # What is left of it goes with the group, or when somebody tidies.
        fresh.delete(*truth)
        assert due_of(opened(), "leases/", NOW) == []
        assert due_of(opened(), "leases/", NOW) == []
        assert secrets_of(bao, store) == [], (change, allowed)
        if finished:
            break
    assert finished or (first and change in ("sooner", "later"))


def test_a_seal_that_comes_too_late_is_not_believed(opened: Opened) -> None:
    """Whoever puts it may have been overtaken between the group and the seal."""
    store, other = opened(), opened()
    group = random_text(8)
    paths = [f"{FOLDER}/{group}-{random_text(11)}" for _unused in range(GROUP_SIZE)]
    put_name = store._engine.put_name

    def overtaken(path: str) -> bool:
        other.write(Write(paths[0], {"n": 2}, 1, NOW))
        return put_name(path)

    store._engine.put_name = overtaken  # type: ignore[method-assign]
    store.receive(*(Write(path, {"n": 1}, 0, DUE) for path in paths))
    assert [one.path for one in due_of(opened(), "leases/", NOW)] == paths[:1]


def test_one_who_seals_and_one_who_writes_exclude_each_other(opened: Opened) -> None:
    """However they meet, what is due is found and counted."""
    store = opened()
    paths = a_group(store, GROUP_SIZE)
    over = threading.Event()

    def write() -> None:
        mine = opened()
        for turn in range(1, 16):
            mine.write(Write(paths[0], {"n": turn}, turn, NOW if turn % 2 else DUE))
        over.set()

    def seal() -> None:
        mine = opened()
        while not over.is_set():
            seal_again(mine, place_of(paths[0]))

    with ThreadPoolExecutor(3) as pool:
        for work in [pool.submit(write), pool.submit(seal), pool.submit(seal)]:
            work.result()
    survey = opened().survey("leases/", NOW, tidy=True)
    assert [one.path for one in survey.due] == paths[:1]  # type: ignore[union-attr]
    assert survey.later == GROUP_SIZE - 1


def test_many_groups_that_nobody_has_filled_are_sealed_by_a_survey(opened: Opened, proxy: Proxy) -> None:
    store = opened()
    for _unused in range(12):
        a_group(store, 3)
    assert summary(opened(), "leases/") == Summary(36, DUE)
    assert due_of(opened(), "leases/", NOW) == []
    fresh = opened()
    fresh.check_rights()
    proxy.seen.clear()
    assert summary(fresh, "leases/") == Summary(36, DUE)
    assert all("list=true" in request for request, _headers in proxy.seen)


# Many


def test_100000_live_documents_cost_an_idle_survey_little(opened: Opened, proxy: Proxy) -> None:
    """Nothing is opened, and the count is exact. The documents are small, since they do not matter."""
    store, count = opened(), 100_000
    groups = -(-count // GROUP_SIZE)

    def fill(number: int) -> None:
        size = min(GROUP_SIZE, count - number * GROUP_SIZE)
        group = random_text(8)
        paths = [f"{FOLDER}/{group}-{random_text(11)}" for _unused in range(size)]
        store.receive(*(Write(path, {}, 0, DUE + number) for path in paths))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fill, range(groups)))
    fresh = opened()
    fresh.check_rights()
    proxy.seen.clear()
    survey = fresh.survey("leases/", NOW, tidy=True)
    assert list(survey.due) == []
    assert (survey.later, survey.next_due) == (count, DUE)
    # The folders, the names of one folder, and the one group that is not full.
    assert len(proxy.seen) == 3


def test_writers_at_the_same_time_rarely_meet(opened: Opened, bao: Bao) -> None:
    """Each fills groups of its own; all that is written is there."""
    lines: list[str] = []

    def work(_number: int) -> None:
        store = opened(lines=lines)
        for _unused in range(12):
            path = f"{FOLDER}/{store.new_key(FOLDER, DUE)}"
            store.write(Write(path, {}, 0, DUE))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    store = opened()
    assert summary(store, "leases/").count == 96
    assert len(secrets_of(bao, store)) <= 16
    refused = [line for line in lines if line.startswith("Vault: POST") and " 400 " in line]
    assert len(refused) <= 5


def test_who_has_met_another_run_takes_up_no_other_group_of_theirs(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run finds with room while others work is what they are filling."""
    groups = [a_group(opened(), 2)[0].rpartition("-")[0] for _unused in range(8)]
    # It takes up what it has found with room, rather than begin a group.
    monkeypatch.setattr(vault_pool._random, "randrange", lambda stop: stop - 1)
    store, others = opened(), opened()
    load, met = store._groups.load, []

    def load_while_others_write(place: str) -> t.Any:
        group = load(place)
        if place.removesuffix("-") in groups and place not in met:
            met.append(place)
            others.write(Write(f"{place}{random_text(11)}", {}, 0, DUE))
        return group

    monkeypatch.setattr(store._groups, "load", load_while_others_write)
    for _unused in range(8):
        store.write(Write(f"{FOLDER}/{store.new_key(FOLDER, DUE)}", {}, 0, DUE))
    assert len(met) == 1


@pytest.mark.parametrize(("ago", "is_taken_up"), [(0, False), (2, False), (3, True), (600, True), (-5, True)])
def test_a_group_is_left_alone_while_the_run_that_has_begun_it_may_be_at_work(
    opened: Opened, bao: Bao, monkeypatch: pytest.MonkeyPatch, ago: int, is_taken_up: bool
) -> None:
    """What both had in it they would go on to renew and end at the same time."""
    monkeypatch.setattr(vault_pool._random, "randrange", lambda stop: stop - 1)
    monkeypatch.setattr(vault_pool.time, "time", lambda: 1_800_000_000.0)
    # Five minutes ahead is a clock that is wrong.
    begun = f"{base36(1_800_000_000 // 60 - ago, 5)}{random_text(5)}"
    opened().receive(*(Write(f"{FOLDER}/{begun}-{random_text(11)}", {}, 0, DUE) for _unused in range(2)))
    store = opened()
    store.write(Write(f"{FOLDER}/{store.new_key(FOLDER, DUE)}", {}, 0, DUE))
    assert len(secrets_of(bao, store)) == (1 if is_taken_up else 2)


def test_one_writer_after_another_fills_the_same_group(opened: Opened, bao: Bao) -> None:
    for _task in range(20):
        store = opened()
        store.write(Write(f"{FOLDER}/{store.new_key(FOLDER, DUE)}", {}, 0, DUE))
    assert len(secrets_of(bao, store)) == 1


# What is left of what has ended


def versions_that_show(bao: Bao, store: VaultKVStore, path: str, text: str) -> list[int]:
    """Return which versions of a secret that Vault still has show a text."""
    kv, place = bao.client().secrets.kv.v2, f"{base_of(store)}/{path}"
    versions = kv.read_secret_metadata(place, mount_point="secret")["data"]["versions"]
    shown = []
    for version in map(int, versions):
        found = kv.read_secret_version(place, version=version, mount_point="secret", raise_on_deleted_version=False)
        content = (found["data"]["data"] or {}).get("data", "")
        if text in json.dumps(found) or text in unshrink(content):
            shown.append(version)
    return shown


def test_what_a_document_does_not_show_any_more_is_in_no_version_of_its_group(opened: Opened, bao: Bao) -> None:
    """As the key of a static role that has been replaced and lives on for a while."""
    store, marker = opened(), secrets.token_hex(12)
    path = f"{FOLDER}/{store.new_key(FOLDER, DUE)}"
    store.write(Write(path, {"n": 1, "api_key": marker}, 0, DUE))
    store.write(Write(path, {"n": 2}, 1, DUE))
    assert versions_that_show(bao, store, str(place_of(path)), marker) == []


@pytest.mark.parametrize("before", ["alone", "later joined by others", "written with others at once"])
def test_an_ended_document_is_in_no_version_of_its_group(opened: Opened, bao: Bao, before: str) -> None:
    store, marker = opened(), secrets.token_hex(12)
    path = f"{FOLDER}/{store.new_key(FOLDER, DUE)}"
    group = str(place_of(path))
    others = [f"{group}{random_text(11)}" for _unused in range(3)]
    ended = Write(path, {"api_key": marker}, 0, DUE)
    if before == "written with others at once":
        store.write(ended, *(Write(other, {}, 0, DUE) for other in others))
    else:
        store.write(ended)
    # Renewed while it is the only one: its versions show nothing that is not in the newest.
    store.write(Write(path, {"api_key": marker}, 1, DUE))
    shown = versions_that_show(bao, store, group, marker)
    assert (2 in shown) is True
    if before == "later joined by others":
        store.write(*(Write(other, {}, 0, DUE) for other in others))
    store.write(Write(path, {"ending": 1}, 2, DUE, ends=True))
    store.delete(path)
    if before != "alone":
        assert versions_that_show(bao, store, group, marker) == []
        store.delete(*others)
    assert secrets_of(bao, store) == []
