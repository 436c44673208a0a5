# SPDX-License-Identifier: GPL-3.0-or-later
"""What every backend has to do, written against the Store interface alone."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import threading
import time
import traceback
import typing as t

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from store.conftest import SHARED
from surveys import Summary, due, summary

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import Conflict, StoreError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Document, Store, Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_kv import VaultKVStore

FORK = multiprocessing.get_context("fork")
OpenStore = t.Callable[..., Store]


def in_processes(*works: t.Callable[[], None]) -> None:
    """Do each work in a process of its own; raise what went wrong in any."""
    errors = FORK.SimpleQueue()

    def run(work: t.Callable[[], None]) -> None:
        try:
            work()
        except BaseException:  # noqa: BLE001 - it is reported
            errors.put(traceback.format_exc())
            os._exit(1)
        os._exit(0)

    processes = [FORK.Process(target=run, args=(work,)) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert errors.empty(), errors.get()
    assert all(process.exitcode == 0 for process in processes)


def in_threads(*works: t.Callable[[], None]) -> None:
    errors: list[str] = []

    def run(work: t.Callable[[], None]) -> None:
        try:
            work()
        except BaseException:  # noqa: BLE001 - it is reported
            errors.append(traceback.format_exc())

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]


def increment(store: Store, path: str, times: int) -> None:
    """Add one to a document, so many times, whatever others do to it."""
    done = 0
    while done < times:
        document = store.read(path)
        count = document.data["count"] if document else 0
        try:
            store.write(Write(path, {"count": count + 1}, document.version if document else 0))
            done += 1
        except Conflict:
            time.sleep(random.uniform(0, 0.01))


def paths(documents: t.Iterable[Document]) -> list[str]:
    return sorted(document.path for document in documents)


# One document.


def test_nothing_is_there_before_something_is_written(store: Store) -> None:
    assert store.read("definitions") is None
    assert store.read("leases/abcd/000-xyz") is None
    assert list(store.scan("leases/")) == []
    assert summary(store, "leases/") == Summary(0, None)
    store.delete("definitions", "leases/abcd/000-xyz")
    assert store.read("definitions") is None


@pytest.mark.parametrize("path", ["a", "a/b", "a/b/c", "a_1/2/3-4", "leases/abcd/000-x1y2", "intents/abc"])
def test_what_is_written_is_read(open_store: OpenStore, path: str) -> None:
    open_store().write(Write(path, {"n": 1}))
    assert open_store().read(path) == Document(path, {"n": 1}, 1)


DATA: list[dict[str, t.Any]] = [
    {},
    {"": ""},
    {"a": None, "b": True, "c": False, "d": 0, "e": -1, "f": 1.5, "g": 2**60},
    {"nested": {"list": [1, [2, {"x": [None]}]], "empty": {}, "none": []}},
    {"text": "ünï\u2028cødé \U0001f511 \x00\x1f\x7f \ud7ff"},
    {"newlines": "a\nb\r\nc\n\n", "tabs": "\t", "quotes": "\"'`\\"},
    {"looks like": "$ANSIBLE_VAULT;1.1;AES256\n6162", "jinja": "{{ 1 + 1 }}", "yaml": "!unsafe &a *a"},
    {"big": "x" * 100_000},
    {f"key{number}": number for number in range(500)},
]


@pytest.mark.parametrize("data", DATA, ids=range(len(DATA)))
def test_all_of_json_comes_back_as_it_was(open_store: OpenStore, data: dict[str, t.Any]) -> None:
    writer = open_store()
    writer.write(Write("doc", data))
    for store in (writer, open_store()):
        document = store.read("doc")
        assert document and document.data == data
        assert json.dumps(document.data) == json.dumps(data), "also in order"


def test_versions_count_from_one(store: Store) -> None:
    for version in range(5):
        store.write(Write("doc", {"n": version}, version))
        assert store.read("doc") == Document("doc", {"n": version}, version + 1)


def test_another_version_is_a_conflict_and_changes_nothing(open_store: OpenStore) -> None:
    store = open_store()
    for version in (1, 2, -1):
        with pytest.raises(Conflict):
            store.write(Write("doc", {"n": "wrong"}, version))
    assert store.read("doc") is None
    store.write(Write("doc", {"n": 1}))
    store.write(Write("doc", {"n": 2}, 1))
    for version in (0, 1, 3, -1):
        with pytest.raises(Conflict):
            store.write(Write("doc", {"n": "wrong"}, version))
    for seen in (store, open_store()):
        assert seen.read("doc") == Document("doc", {"n": 2}, 2)


def test_a_conflict_is_an_error_of_the_store(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        store.write(Write("doc", {}, 7))
    assert "\n" not in str(caught.value)


def test_what_the_writer_does_with_his_data_later_is_his_business(store: Store) -> None:
    data = {"n": 1, "list": [1], "dict": {"x": 1}}
    store.write(Write("doc", data))
    data["n"] = 2
    data["list"].append(2)  # type: ignore[attr-defined]
    data["dict"]["x"] = 2  # type: ignore[index]
    document = store.read("doc")
    assert document and document.data == {"n": 1, "list": [1], "dict": {"x": 1}}


def test_deleting_is_for_good_and_may_be_repeated(open_store: OpenStore) -> None:
    store = open_store()
    store.write(Write("a/b/c-1", {"n": 1}), Write("a/b/c-2", {"n": 2}))
    for _unused in range(3):
        store.delete("a/b/c-1", "a/b/nothing", "nowhere/at/all")
        assert store.read("a/b/c-1") is None
        assert open_store().read("a/b/c-1") is None
        assert open_store().read("a/b/c-2") == Document("a/b/c-2", {"n": 2}, 1)
    with pytest.raises(Conflict):
        store.write(Write("a/b/c-1", {"n": 3}, 1))
    store.write(Write("a/b/c-1", {"n": 3}, 0))
    assert store.read("a/b/c-1") == Document("a/b/c-1", {"n": 3}, 1)
    store.delete("a/b/c-1", "a/b/c-2")
    assert summary(store, "a/") == Summary(0, None)


def test_doing_nothing_is_allowed(store: Store) -> None:
    store.write()
    store.delete()
    assert list(store.scan("a/")) == []


# Many documents.


def test_writing_several_at_once(open_store: OpenStore) -> None:
    writes = [
        Write(f"leases/{hour}/{group}-{key}", {"n": f"{hour}{group}{key}"})
        for hour in "ab"
        for group in "cd"
        for key in "ef"
    ]
    open_store().write(*writes, Write("definitions", {}))
    assert paths(open_store().scan("leases/")) == sorted(write.path for write in writes)
    for write in writes:
        assert open_store().read(write.path) == Document(write.path, write.data, 1)


def test_one_conflict_among_several_leaves_each_document_whole(store: Store) -> None:
    store.write(Write("a/x-1", {"n": 0}))
    with pytest.raises(Conflict):
        store.write(Write("a/x-1", {"n": 1}, 1), Write("a/x-2", {"n": 1}, 5), Write("b/y", {"n": 1}))
    assert store.read("a/x-2") is None
    assert store.read("a/x-1") in (Document("a/x-1", {"n": 0}, 1), Document("a/x-1", {"n": 1}, 2))
    assert store.read("b/y") in (None, Document("b/y", {"n": 1}, 1))


def test_scanning_by_prefix(store: Store) -> None:
    there = ["a", "ab/c", "a/b", "a/c-1", "a/c-2", "a/d/e", "a/d/f-1", "b/a/c"]
    store.write(*(Write(path, {"path": path}) for path in there))
    for prefix in ("a/", "a/d/", "ab/", "b/", "b/a/", "c/", "d/"):
        found = list(store.scan(prefix))
        assert paths(found) == sorted(path for path in there if path.startswith(prefix)), prefix
        assert all(document.data == {"path": document.path} and document.version == 1 for document in found)
        assert summary(store, prefix).count == len(found), prefix


def test_scanning_a_part_of_what_is_kept_together(store: Store) -> None:
    there = ["a/1-xa", "a/1-xb", "a/1-y", "a/12-xa", "a/123-xa", "b/1-xa", "a/123-0123456789a", "a/123-0123456789b"]
    store.write(*(Write(path, {}) for path in there))
    for prefix in ("a/1-", "a/1-x", "a/1-xa", "a/12-", "a/123-", "a/123-x", "a/123-0123456789", "a/2-"):
        assert paths(store.scan(prefix)) == sorted(path for path in there if path.startswith(prefix)), prefix


def test_what_is_due_where_nothing_is_kept_by_the_hour(open_store: OpenStore) -> None:
    store, now = open_store(), 1_800_000_000
    dues = {f"claims/{number % 3}-m{number}": now + number * 1000 for number in range(-6, 7)}
    store.write(*(Write(path, {}, due=due) for path, due in dues.items()))
    for at in (now - 10**6, now - 6000, now - 1, now, now + 3599, now + 3600, now + 10**6):
        for seen in (store, open_store()):
            assert paths(seen.due("claims/", at, tidy=True)) == sorted(
                path for path, due in dues.items() if due <= at
            ), at
    store.write(Write("claims/0-m0", {}, 1, due=now + 10**5))
    assert "claims/0-m0" not in paths(open_store().due("claims/", now, tidy=True))
    assert "claims/0-m0" in paths(open_store().due("claims/", now + 10**5, tidy=True))
    store.delete(*dues)
    assert paths(open_store().due("claims/", now + 10**6, tidy=True)) == []
    assert paths(open_store().scan("claims/")) == []


def test_a_prefix_reaches_all_the_way_down(store: Store) -> None:
    """The interface says one or more parts, and all whose path begins with the prefix."""
    store.write(Write("a/b/c/d", {}), Write("a/b/c/d2/e-1", {}))
    assert paths(store.scan("a/")) == ["a/b/c/d", "a/b/c/d2/e-1"]
    assert summary(store, "a/").count == 2


def test_scanning_for_what_is_due(open_store: OpenStore) -> None:
    store = open_store()
    dues = {f"leases/h{number % 3}/{number % 2}-{number}": number * 10 for number in range(1, 13)}
    store.write(*(Write(path, {"due": due}, due=due) for path, due in dues.items()))
    for now in (0, 9, 10, 11, 60, 119, 120, 10**12):
        for seen in (store, open_store()):
            wanted = sorted(path for path, due in dues.items() if due <= now)
            assert paths(due(seen, "leases/", now)) == wanted, now
    assert summary(store, "leases/") == Summary(12, 10)
    assert summary(store, "leases/h2/") == Summary(4, 20)


def test_due_changes_with_a_write_and_goes_with_a_delete(open_store: OpenStore) -> None:
    store = open_store()
    store.write(Write("l/h/a-1", {}, due=100), Write("l/h/a-2", {}, due=200))
    store.write(Write("l/h/a-1", {}, 1, due=300))
    assert summary(open_store(), "l/") == Summary(2, 200)
    assert paths(due(open_store(), "l/", 250)) == ["l/h/a-2"]
    store.delete("l/h/a-2")
    assert summary(open_store(), "l/") == Summary(1, 300)
    store.delete("l/h/a-1")
    assert summary(open_store(), "l/") == Summary(0, None)


def test_mounts_do_not_see_each_other(open_store: OpenStore) -> None:
    one, two = open_store("one"), open_store("two")
    one.write(Write("doc", {"n": 1}), Write("l/h/a", {}))
    assert two.read("doc") is None and summary(two, "l/").count == 0
    two.write(Write("doc", {"n": 2}))
    two.delete("l/h/a")
    assert one.read("doc") == Document("doc", {"n": 1}, 1) and summary(one, "l/").count == 1


def test_new_keys_are_unused_and_good_for_a_path(store: Store) -> None:
    keys = []
    for number in range(150):
        key = store.new_key("leases/abcd", 1000)
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and key.count("-") <= 1
        assert store.read(f"leases/abcd/{key}") is None
        if number % 3 == 0:
            store.write(Write(f"leases/abcd/{key}", {"n": number}))
        keys.append(key)
    assert len(set(keys)) == 150
    assert summary(store, "leases/").count == 50


def test_new_keys_do_not_put_everything_together(store: Store) -> None:
    """What is kept together is written together, so that there must not be too much of it."""
    groups: dict[str, int] = {}
    for _unused in range(14):
        batch = [f"leases/abcd/{store.new_key('leases/abcd', 1000)}" for _key in range(20)]
        store.write(*(Write(path, {}) for path in batch))
        for path in batch:
            group = path.partition("-")[0]
            groups[group] = groups.get(group, 0) + 1
    assert max(groups.values()) <= 100, groups
    assert summary(store, "leases/").count == 280


def test_many_documents(open_store: OpenStore) -> None:
    store = open_store()
    everything = [f"leases/{hour:04d}/{group}-{key}" for hour in range(10) for group in range(4) for key in range(50)]
    store.write(*(Write(path, {"path": path}, due=int(path[7:11])) for path in everything))
    assert paths(open_store().scan("leases/")) == sorted(everything)
    assert summary(open_store(), "leases/") == Summary(2000, 0)
    assert len(due(open_store(), "leases/", 4)) == 1000
    store.delete(*everything[:1000])
    assert paths(open_store().scan("leases/")) == sorted(everything[1000:])


# Many writers.


def test_threads_lose_no_update(open_store: OpenStore) -> None:
    shared = open_store()
    stores = [shared if number % 2 else open_store() for number in range(16)]
    in_threads(*(lambda store=store: increment(store, "counter", 6) for store in stores))  # type: ignore[misc]
    document = open_store().read("counter")
    assert document == Document("counter", {"count": 96}, 96)


@SHARED
def test_processes_lose_no_update(open_store: OpenStore) -> None:
    in_processes(*(lambda: increment(open_store(), "a/counter-1", 12) for _unused in range(8)))
    assert open_store().read("a/counter-1") == Document("a/counter-1", {"count": 96}, 96)


@SHARED
def test_a_store_that_was_forked_loses_no_update(open_store: OpenStore) -> None:
    """Ansible forks its workers from a process that may have opened the store already."""
    store = open_store()
    store.write(Write("counter", {"count": 0}))
    store.read("counter")
    in_processes(*(lambda: increment(store, "counter", 5) for _unused in range(4)))
    assert store.read("counter") == Document("counter", {"count": 20}, 21)


@SHARED
def test_processes_that_write_different_documents_of_one_group(open_store: OpenStore) -> None:
    """They never conflict, and none is lost."""

    def work(number: int) -> None:
        store = open_store()
        for index in range(8):
            store.write(Write(f"leases/abcd/000-{number}x{index}", {"n": [number, index]}, due=1000 - index))
        store.delete(f"leases/abcd/000-{number}x0")

    in_processes(*(lambda number=number: work(number) for number in range(8)))  # type: ignore[misc]
    found = {document.path: document.data["n"] for document in open_store().scan("leases/")}
    assert found == {
        f"leases/abcd/000-{number}x{index}": [number, index] for number in range(8) for index in range(1, 8)
    }
    assert summary(open_store(), "leases/") == Summary(56, 993)


@SHARED
def test_processes_that_come_and_go_in_one_folder(open_store: OpenStore) -> None:
    """Folders and groups vanish with their last document, while others begin them."""

    def work(number: int) -> None:
        store = open_store()
        for index in range(12):
            path = f"leases/abcd/{store.new_key('leases/abcd', 1000)}"
            store.write(Write(path, {"n": index}))
            assert store.read(path) == Document(path, {"n": index}, 1)
            store.delete(path)
            assert store.read(path) is None

    in_processes(*(lambda number=number: work(number) for number in range(6)))  # type: ignore[misc]
    assert summary(open_store(), "leases/") == Summary(0, None)


@SHARED
def test_only_one_of_many_creates_a_document(open_store: OpenStore) -> None:
    won = FORK.SimpleQueue()
    barrier = FORK.Barrier(6)

    def work(number: int) -> None:
        store = open_store()
        for index in range(8):
            barrier.wait()
            try:
                store.write(Write(f"claims/c{index}", {"by": number}))
                won.put((index, number))
            except Conflict:
                pass

    in_processes(*(lambda number=number: work(number) for number in range(6)))  # type: ignore[misc]
    winners = []
    while not won.empty():
        winners.append(won.get())
    assert sorted(index for index, _number in winners) == list(range(8))
    assert {document.path: document.data["by"] for document in open_store().scan("claims/")} == {
        f"claims/c{index}": number for index, number in winners
    }


@SHARED
def test_a_reader_never_sees_half_of_anything(open_store: OpenStore) -> None:
    """While one writes, others read: always whole documents, never older than before, never missing."""
    steady = [f"l/h/{group}-steady" for group in ("000", "001")]

    def data(number: int) -> dict[str, t.Any]:
        return {"number": number, "text": str(number) * 2000, "again": number}

    open_store().write(*(Write(path, data(0)) for path in steady))
    over = FORK.Event()

    def write() -> None:
        store = open_store()
        for number in range(1, 45):
            store.write(*(Write(path, data(number), number) for path in steady))
            store.write(Write(f"l/h/00{number % 3}-t{number}", {"number": number}))
            if number > 2:
                store.delete(f"l/h/00{(number - 2) % 3}-t{number - 2}")
        over.set()

    def check(document: Document | None) -> int:
        assert document is not None, "missing"
        assert document.data == data(document.data["number"]), "torn"
        assert document.version == document.data["number"] + 1
        return int(document.data["number"])

    def read(fresh: bool) -> None:
        store, last = open_store(), 0
        for turn in itertools.count():
            if over.is_set() and turn > 20:
                return
            store = open_store() if fresh else store
            number = check(store.read(steady[turn % 2]))
            assert number >= last - 1
            last = max(last, number)
            if turn % 4 == 0:
                found = {document.path: document for document in store.scan("l/")}
                for path in steady:
                    check(found.get(path))
                assert 2 <= summary(store, "l/").count <= 5

    in_processes(write, lambda: read(False), lambda: read(True))


# Against a model.


class Model(RuleBasedStateMachine):
    """Two openings of one store do as a dictionary does."""

    MOUNTS = itertools.count()
    open_store: t.ClassVar[t.Callable[[str], Store]]
    #: Whether the earliest time is the true one also after two openings have changed the same document in turns.
    exact: t.ClassVar[bool]

    FOLDERS = st.sampled_from(["", "a/", "a/b/", "leases/0001/", "leases/0002/"])
    KEYS = st.sampled_from(["x", "y", "g-1", "g-2", "h-1"])
    PATHS = st.builds(str.__add__, FOLDERS, KEYS)
    VALUES = st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.integers(), st.text(max_size=5)), max_size=2)

    @initialize()
    def start(self) -> None:
        mount = f"mount{next(self.MOUNTS)}"
        self.stores = (type(self).open_store(mount), type(self).open_store(mount))
        self.model: dict[str, tuple[dict[str, t.Any], int, int]] = {}

    @rule(
        path=PATHS, data=VALUES, due=st.integers(0, 50), which=st.integers(0, 1), off=st.sampled_from([0, 0, 0, -1, 1])
    )
    def write(self, path: str, data: dict[str, t.Any], due: int, which: int, off: int) -> None:
        version = self.model[path][1] if path in self.model else 0
        try:
            self.stores[which].write(Write(path, data, version + off, due))
        except Conflict:
            assert off
        else:
            assert not off
            self.model[path] = (data, version + 1, due)

    @rule(batch=st.dictionaries(PATHS, VALUES, min_size=2, max_size=4), due=st.integers(0, 50), which=st.integers(0, 1))
    def write_several(self, batch: dict[str, dict[str, t.Any]], due: int, which: int) -> None:
        versions = {path: self.model[path][1] if path in self.model else 0 for path in batch}
        self.stores[which].write(*(Write(path, data, versions[path], due) for path, data in batch.items()))
        self.model.update({path: (data, versions[path] + 1, due) for path, data in batch.items()})

    @rule(doomed=st.lists(PATHS, min_size=1, max_size=4), which=st.integers(0, 1))
    def delete(self, doomed: list[str], which: int) -> None:
        self.stores[which].delete(*doomed)
        for path in doomed:
            self.model.pop(path, None)

    @rule(path=PATHS, which=st.integers(0, 1))
    def read(self, path: str, which: int) -> None:
        wanted = Document(path, *self.model[path][:2]) if path in self.model else None
        assert self.stores[which].read(path) == wanted

    @rule(
        prefix=st.sampled_from(["a/", "a/b/", "leases/", "leases/0001/"]), due=st.one_of(st.none(), st.integers(0, 50))
    )
    def scan(self, prefix: str, due: int | None) -> None:
        wanted = {
            path: (data, version)
            for path, (data, version, at) in self.model.items()
            if path.startswith(prefix) and (due is None or at <= due)
        }
        for store in self.stores:
            found = list(store.scan(prefix) if due is None else store.survey(prefix, due, tidy=True).due)
            assert {one.path: (one.data, one.version) for one in found} == wanted
            assert len(found) == len(wanted)

    @invariant()
    def sums_up(self) -> None:
        for prefix in ("a/", "leases/"):
            dues = [due for path, (_data, _version, due) in self.model.items() if path.startswith(prefix)]
            for now in (-1, 25):
                later = [due for due in dues if due > now]
                found = self.stores[0].survey(prefix, now, tidy=False)
                assert len(list(found.due)) == len(dues) - len(later)
                assert found.later == len(later)
                if later and not self.exact:
                    assert found.next_due is not None and now < found.next_due <= min(later)
                else:
                    assert found.next_due == min(later, default=None)


@pytest.mark.slow
@pytest.mark.timeout(900)  # Its thousands of requests to Vault take minutes on a busy machine.
def test_like_a_dictionary(open_store: OpenStore) -> None:
    class Machine(Model):
        pass

    Machine.open_store = staticmethod(open_store)  # type: ignore[assignment]
    Machine.exact = not isinstance(open_store(), VaultKVStore)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine, settings=settings(max_examples=20, stateful_step_count=20, deadline=None)
    )
