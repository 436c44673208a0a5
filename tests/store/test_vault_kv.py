# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the Vault KV store has: requests that get lost, servers that are not ready, engines that are not right."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import threading
import time
import typing as t
from urllib.parse import urlsplit

import hvac
import pytest
from gateway import MADE_UP, Fault, Opened, Proxy, base_of, refused
from surveys import Summary, summary
from surveys import due as due_of

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import Conflict
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store import (
    vault_engine,
    vault_http,
    vault_traffic,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Write, bucket
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_content import due_text
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_kv import VaultKVStore

if t.TYPE_CHECKING:
    from bao import Bao


def names(bao: Bao, store: VaultKVStore, prefix: str) -> list[str]:
    """Return all names that the server holds below a prefix."""
    found = []
    try:
        keys = bao.client().secrets.kv.v2.list_secrets(f"{base_of(store)}/{prefix}", mount_point="secret")["data"][
            "keys"
        ]
    except hvac.exceptions.InvalidPath:
        return []
    for key in keys:
        found += names(bao, store, f"{prefix}{key}") if key.endswith("/") else [f"{prefix}{key}"]
    return sorted(found)


@pytest.mark.parametrize("fault", ["drop", "lose", 429, 412, 500, 502, 503])
@pytest.mark.parametrize("times", [1, 3])
def test_what_passes_is_ridden_out(
    opened: Opened, proxy: Proxy, fault: Fault, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a write that was made although its answer got lost: it is made once and reported once."""
    monkeypatch.setattr(vault_traffic, "_FIRST_INTERVAL", 0.02)
    store = opened()
    assert store.read("a/x") is None
    for number, act in enumerate(
        (
            lambda: store.write(Write("a/x", {"n": 1})),
            lambda: store.write(Write("a/x", {"n": 2}, 1)),
            lambda: store.read("a/x"),
            lambda: list(store.scan("a/")),
            lambda: store.delete("a/x"),
        )
    ):
        proxy.faults = [(".", fault, times)]
        act()
        assert proxy.faults[0][2] == 0
        document = opened().read("a/x")
        assert (document.version if document else None) == (1, 2, 2, 2, None)[number]


def test_a_write_that_somebody_else_was_faster_with_is_a_conflict_also_when_its_answer_got_lost(
    opened: Opened, proxy: Proxy
) -> None:
    store, other = opened(), opened()
    other.write(Write("a/x", {"n": 1}))
    proxy.faults = [("POST|PUT", "lose", 1)]
    with pytest.raises(Conflict):
        store.write(Write("a/x", {"n": 1}))
    assert other.read("a/x").version == 1  # type: ignore[union-attr]


def test_what_does_not_pass_is_told_after_a_while(
    opened: Opened, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_http, "RETRY_SECONDS", 0.3)
    store = opened()
    store.read("a/x")
    proxy.faults = [(".", 503, 10**6)]
    assert "cannot answer now: this passes" in refused(store.read, "a/x")
    proxy.faults = [(".", 429, 10**6)]
    assert "refuses so many requests (429)" in refused(store.read, "a/x")
    proxy.faults = [(".", "drop", 10**6)]
    assert "cannot be reached" in refused(store.write, Write("a/x", {}))


def test_a_404_of_something_else_is_not_taken_for_an_absence(opened: Opened, proxy: Proxy) -> None:
    store = opened()
    store.write(Write("a/x", {"n": 1}))
    for act in (lambda: store.read("a/x"), lambda: list(store.scan("a/")), lambda: summary(store, "a/")):
        proxy.faults = [(".", 404, 1)]
        assert "is not Vault or OpenBao" in refused(act)


def test_each_request_is_a_line_without_a_secret(opened: Opened, bao: Bao) -> None:
    token, lines = bao.policy_token(), list[str]()
    store = opened(bao.root_token, lines=lines)
    store.write(Write("a/x", {"api_key": "sk-secret"}))
    store.read("a/x")
    assert all(re.fullmatch(r"Vault: [A-Z]+ /v1/\S+ \d+ request [0-9a-f-]+ \d+ ms attempt 1", line) for line in lines)
    assert len(lines) == 4
    assert not [line for line in lines if bao.root_token in line or token in line or "sk-secret" in line]


def test_all_is_asked_of_the_active_node(opened: Opened, proxy: Proxy) -> None:
    """By an index that no standby will ever have; unless the server does not understand it."""
    store = opened()
    store.read("a/x")
    index = json.loads(base64.b64decode(proxy.seen[-1][1]["X-Vault-Index"]))
    assert int(index["value"]) == 2**63 - 1
    assert proxy.seen[-1][1]["X-Vault-Inconsistent"] == "forward-active-node"
    store._engine._client[1].adapter.index = "no index"  # type: ignore[index, attr-defined]
    store.write(Write("a/x", {}))
    assert "X-Vault-Index" not in proxy.seen[-1][1]
    assert store.read("a/x")


def test_reads_are_no_older_than_the_last_write(opened: Opened, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other server that says how far a write goes is asked for no less."""
    monkeypatch.setattr(vault_engine.KVEngine, "_index_of_the_active_node", staticmethod(lambda _adapter: None))
    store = opened()
    proxy.answer_headers = {"X-Vault-Index": MADE_UP}
    store.write(Write("a/x", {}))
    proxy.answer_headers = {}
    proxy.seen.clear()
    store.read("a/x")
    other = threading.Thread(target=store.read, args=("a/x",))
    other.start()
    other.join()
    # Another process of the run.
    opened().read("a/x")
    reads = [headers for request, headers in proxy.seen if request.split()[1].endswith("/a/x")]
    for headers in reads:
        assert headers["X-Vault-Index"] == MADE_UP and headers["X-Vault-Inconsistent"] == "forward-active-node"
    assert len(reads) == 3


def test_the_wrong_engine_is_refused_before_anything_is_written(opened: Opened, bao: Bao) -> None:
    client = bao.client()
    name = f"old{secrets.token_hex(4)}"
    client.sys.enable_secrets_engine("kv", path=name, options={"version": "1"})
    try:
        store = opened(engine=name)
        assert f"the KV engine at '{name}' has version 1" in refused(store.write, Write("a/x", {}))
        with pytest.raises(hvac.exceptions.InvalidPath):
            client.secrets.kv.v1.list_secrets("", mount_point=name)
    finally:
        client.sys.disable_secrets_engine(name)
    assert f"there is no secrets engine at '{name}'" in refused(opened(engine=name).read, "a/x")
    assert "is cubbyhole, not kv" in refused(opened(bao.root_token, engine="cubbyhole").read, "a/x")


def test_a_token_without_the_policy_is_told_so(opened: Opened, bao: Bao) -> None:
    client = bao.client()
    none = client.auth.token.create(policies=["default"], ttl="5m")["auth"]["client_token"]
    assert "the token's policies give no access to secret/data/" in refused(opened(none).read, "a/x")
    store = opened()
    base = base_of(store)
    for capability, act in (
        ("write", lambda store: store.write(Write("a/y", {}))),
        ("read", lambda store: store.read("a/x")),
        ("list", lambda store: list(store.scan("a/"))),
        ("delete", lambda store: store.delete("a/x")),
    ):
        kept = {"data": ["create", "read", "update"], "metadata": ["list", "delete"]}
        if capability == "write":
            kept["data"] = ["read"]
        elif capability == "read":
            kept["data"] = ["create", "update"]
        else:
            kept["metadata"].remove(capability)
        policy = f"without-{secrets.token_hex(4)}"
        rules = "".join(
            f'path "secret/{kind}/{base}/*" {{ capabilities = {json.dumps(capabilities)} }}\n'
            for kind, capabilities in kept.items()
        )
        client.sys.create_or_update_policy(policy, rules)
        token = client.auth.token.create(policies=[policy], ttl="5m", no_default_policy=True)["auth"]["client_token"]
        text = refused(act, opened(token))
        assert f"does not let this token {capability} secret/" in text, text


def test_what_somebody_has_deleted_by_hand_is_not_taken_for_an_absence(opened: Opened, bao: Bao) -> None:
    store = opened()
    store.write(Write("a/x", {}))
    bao.client().secrets.kv.v2.delete_latest_version_of_secret(f"{base_of(store)}/a/x", mount_point="secret")
    assert "by hand" in refused(store.read, "a/x")


def test_what_is_not_ours_is_not_taken_for_ours(opened: Opened, bao: Bao) -> None:
    store = opened()
    bao.client().secrets.kv.v2.create_or_update_secret(
        f"{base_of(store)}/a/x", {"hello": "world"}, mount_point="secret"
    )
    assert "does not hold a document of this store" in refused(store.read, "a/x")


@pytest.mark.parametrize("alone", [True, False])
def test_nothing_of_a_deleted_document_is_left(opened: Opened, bao: Bao, alone: bool) -> None:
    """No version, no metadata, and none of the names that told when it was due; also of one that is kept with others."""
    store, now = opened(), int(time.time())
    folder = f"leases/{bucket(now)}"
    path = f"{folder}/{'alone' if alone else store.new_key(folder, now)}"
    store.write(Write(path, {"n": 1}, 0, now))
    assert len(names(bao, store, "")) == (2 if alone else 1)
    for version, due in enumerate((now + 5000, now - 5000, now + 9000, now, now + 1), 1):
        store.write(Write(path, {"n": version}, version, due))
        assert len(names(bao, store, "")) == (2 if alone else 1)
        assert summary(opened(), "leases/") == Summary(1, due)
        for late in (due, due + 10**6):
            assert [one.data["n"] for one in due_of(opened(), "leases/", late)] == [version]
        assert due_of(opened(), "leases/", due - 1) == []
    opened().delete(path)
    assert names(bao, store, "") == []


def dies_after(store: VaultKVStore, allowed: int) -> None:
    """Let a store make so many requests and no more."""
    request, left = store._engine._request, [allowed]

    def dying(*args: t.Any, **options: t.Any) -> t.Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return request(*args, **options)

    store._engine._request = dying  # type: ignore[method-assign]


def test_a_crash_between_a_document_and_its_time_is_never_too_late(opened: Opened, bao: Bao) -> None:
    """After any number of requests of a write, the document is found by whoever looks for what is due."""
    now = int(time.time())
    for before, due in (
        (now, now + 4000),
        (now, now - 4000),
        (now, now + 100),
        (now, now - 100),
        (now + 4000, now),
        (now - 4000, now),
    ):
        for allowed in range(4):
            store = opened()
            folder = f"leases/{bucket(now)}"
            path = f"{folder}/{store.new_key(folder, now)}"
            store.write(Write(path, {}, 0, now))
            version = 1
            if before != now:
                store.write(Write(path, {}, version, before))
                version += 1
            dies_after(store, allowed)
            try:
                store.write(Write(path, {}, version, due))
            except KeyboardInterrupt:
                pass
            fresh = opened()
            document = fresh.read(path)
            assert document
            truth = due if document.version > version else before
            assert path in [one.path for one in due_of(fresh, "leases/", truth)], (before - now, due - now, allowed)
            fresh.delete(path)
            # What may be left is a name without a document; it does not count, and goes when its time has come.
            assert summary(fresh, "leases/").count == 0
            assert due_of(fresh, "leases/", now + 10**5) == []
            assert names(bao, store, "leases/") == []


def test_the_loser_of_two_who_write_the_same_time_leaves_it_to_the_winner(opened: Opened, bao: Bao) -> None:
    now = int(time.time())
    first, second = opened(), opened()
    path = f"leases/{bucket(now + 7200)}/alone"
    first.write(Write(path, {}, 0, now + 7200))
    assert first.read(path) and second.read(path)
    true = first._singles.put_document

    def overtaken(write: Write, before: t.Sequence[str]) -> bool:
        second.write(Write(path, {"by": "second"}, 1, now))
        return true(write, before)

    first._singles.put_document = overtaken  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        first.write(Write(path, {"by": "first"}, 1, now))
    assert [one.data for one in due_of(opened(), "leases/", now)] == [{"by": "second"}]


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_write_that_is_refused_hides_no_document(opened: Opened, version: int, is_there: bool) -> None:
    """One that is due at any time has no name that tells so."""
    store = opened()
    if is_there:
        store.write(Write("a/x", {}, 0, 0))
        store.write(Write("a/x", {}, 1, 0))
    if is_there or version:
        with pytest.raises(Conflict):
            opened().write(Write("a/x", {}, version, 17))
    if not is_there:
        store.write(Write("a/x", {}, 0, 0))
    assert [one.path for one in due_of(store, "a/", 1)] == ["a/x"]  # type: ignore[union-attr]


def test_what_is_not_due_is_not_listed(opened: Opened, proxy: Proxy, bao: Bao) -> None:
    """Claims of runs that nobody sees may be many; those of the own machine are listed by themselves."""
    store, now = opened(), int(time.time())
    others = [f"claims/{number % 5}-m{number}" for number in range(50)]
    store.write(*(Write(path, {}, 0, now + 86400) for path in others), Write("claims/7-own", {}, 0, now + 86400))
    store.write(Write("claims/3-due", {}, 0, now - 3600))
    store = opened()
    store.check_rights()
    proxy.seen.clear()
    assert [one.path for one in store.due("claims/", now, tidy=True)] == ["claims/3-due"]
    assert [one.path for one in store.scan("claims/7-own")] == ["claims/7-own"]
    lists = [request for request, _headers in proxy.seen if "list=true" in request]
    assert len(lists) == 3, lists  # the hours, the one that is due, the own machine's
    assert len(proxy.seen) == 5


@pytest.mark.parametrize("is_there", [True, False])
def test_a_name_of_a_time_that_a_crash_has_left_goes_when_its_time_has_come(
    opened: Opened, bao: Bao, is_there: bool
) -> None:
    store, now = opened(), int(time.time())
    if is_there:
        store.write(Write("claims/3-x", {}, 0, now + 86400))
    claims = f"{base_of(store)}/claims"
    base = f"{claims}/.due"
    past = now - 86500
    name = f"{base}/{bucket(past)}/3-x.{due_text(past)}"
    kv = bao.client().secrets.kv.v2
    kv.create_or_update_secret(name, {}, mount_point="secret")
    kv.create_or_update_secret(f"{claims}/.hours/{bucket(past)}", {}, mount_point="secret")
    assert list(opened().due("claims/", now, tidy=False)) == []
    # Whoever has put it may have been held up before he put the document beside it.
    assert list(opened().due("claims/", past + 86000, tidy=True)) == []
    assert len(kv.list_secrets(base, "secret")["data"]["keys"]) == 1 + is_there
    assert list(opened().due("claims/", now, tidy=True)) == []
    if is_there:
        # It is beside a document that is there, and goes when that has gone.
        assert [one.path for one in opened().due("claims/", now + 86400, tidy=True)] == ["claims/3-x"]
        opened().delete("claims/3-x")
        assert list(opened().due("claims/", now, tidy=True)) == []
    with pytest.raises(hvac.exceptions.InvalidPath):
        kv.list_secrets(base, "secret")
    # The names of hours go when they are over, the last ones by the look after that.
    for _unused in range(2):
        assert list(opened().due("claims/", now + 2 * 86400, tidy=True)) == []
    with pytest.raises(hvac.exceptions.InvalidPath):
        kv.list_secrets(claims, "secret")


@pytest.mark.parametrize("instant", ["at once", "when it looks again", "not at all"])
@pytest.mark.parametrize("crash", ["none", "before it looks again", "before it puts the hour again", "at the end"])
def test_an_hour_is_not_forgotten_if_somebody_puts_a_time_in_it_meanwhile(
    opened: Opened, instant: str, crash: str
) -> None:
    """A writer that was held up for long comes between the look at an hour, which has no times, and its end; and whoever forgets
    the hour is killed."""
    store, late, now = opened(), opened(), int(time.time())
    past = now - 7200
    store.write(Write("claims/3-x", {}, 0, past))
    store.delete("claims/3-x")
    looks = opened()
    engine = looks._engine
    destroy, names, put = engine.destroy, engine.names, engine.put

    class Killed(Exception):
        pass

    def destroyed(path: str) -> None:
        if instant == "at once" and path.endswith(bucket(past)):
            late.write(Write("claims/4-y", {}, 0, past))
        if crash == "at the end" and "." in path.rpartition("/")[2]:
            raise Killed
        destroy(path)
        if crash == "before it looks again":
            raise Killed

    def listed(path: str) -> t.Iterator[str]:
        yield from names(path)
        if instant == "when it looks again":
            late.write(Write("claims/4-y", {}, 0, past))

    def again(path: str, *arguments: t.Any) -> None:
        if crash == "before it puts the hour again" and path.endswith(bucket(past)):
            raise Killed
        put(path, *arguments)

    engine.destroy, engine.put = destroyed, again  # type: ignore[method-assign]
    over = bucket(past)
    engine.names = listed  # type: ignore[method-assign]
    with contextlib.suppress(Killed):
        looks._singles.forget_hour("claims/", over, [over])
    found = [one.path for one in opened().due("claims/", now, tidy=True)]  # type: ignore[union-attr]
    there = instant == "at once" or (instant == "when it looks again" and crash != "before it looks again")
    assert found == (["claims/4-y"] if there else [])
    opened().delete("claims/4-y")
    for _unused in range(2):
        assert list(opened().due("claims/", now, tidy=True)) == []
    assert list(names("claims/.hours/")) == []


def test_hours_do_not_pile_up_where_no_cleanup_runs(opened: Opened) -> None:
    now = int(time.time())
    for ago in (3, 2, 1):
        store = opened()
        store.write(Write(f"claims/3-{ago}", {}, 0, now - ago * 3600))
        if ago != 2:
            store.delete(f"claims/3-{ago}")
    store.write(Write("claims/4-y", {}, 0, now + 86400))
    assert set(store._singles.hours("claims/")) == {bucket(now - 7200), bucket(now + 86400)}


def test_a_claim_that_cannot_be_read_keeps_no_other_hour(opened: Opened, bao: Bao) -> None:
    store, now = opened(), int(time.time())
    store.write(Write("claims/3-x", {}, 0, now - 7200), Write("claims/4-y", {}, 0, now - 10800))
    store.delete("claims/4-y")
    kv = bao.client().secrets.kv.v2
    kv.create_or_update_secret(f"{base_of(store)}/claims/3-/x", {"data": "edited"}, mount_point="secret")
    for _unused in range(2):
        assert len(list(opened().due("claims/", now, tidy=True))) == 1
        assert list(store._engine.names("claims/.hours/")) == [bucket(now - 7200)]


@pytest.mark.parametrize("count", [1, 60])
def test_ending_what_is_due_takes_three_requests_for_a_group(opened: Opened, proxy: Proxy, count: int) -> None:
    """To read it, to mark its documents, which closes it, and to destroy it: no more, since there may be many."""
    now, folder = int(time.time()), f"leases/{bucket(int(time.time()))}"
    store = opened()
    paths = [f"{folder}/{store.new_key(folder, now)}" for _unused in range(count)]
    lease = {"expires_at": now, "ending": {"at": now}}
    store.write(*(Write(path, {"expires_at": now}, 0, now) for path in paths))
    store = opened()
    store.check_rights()
    proxy.seen.clear()
    documents = list(store.survey("leases/", now, tidy=True).due)
    assert sorted(one.path for one in documents) == sorted(paths)
    store.write(*(Write(one.path, lease, one.version, now, ends=True) for one in documents))
    store.delete(*paths)
    asked = [request.split()[0] for request, _headers in proxy.seen if "list=true" not in request]
    assert asked == ["GET", "POST", "DELETE"]


def test_what_has_been_deleted_since_it_was_read_is_no_defect(opened: Opened) -> None:
    store, now = opened(), int(time.time())
    paths = [f"leases/{bucket(now)}/{store.new_key('leases', now)}" for _unused in range(3)]
    store.write(*(Write(path, {}, 0, now) for path in paths))
    due = store.survey("leases/", now, tidy=True).due
    next(due)
    store.delete(*paths)
    assert len(list(due)) <= 2


def test_looking_without_tidying_changes_nothing(opened: Opened, bao: Bao) -> None:
    store, now = opened(), int(time.time())
    path = f"leases/{bucket(now)}/{store.new_key('leases', now)}"
    store._engine.put(f"{path}.0000001", {}, 0)
    for tidy, left in ((False, 1), (True, 0)):
        assert list(store.survey("leases/", now, tidy=tidy).due) == []
        assert len(names(bao, store, "leases/")) == left


def test_a_redirect_that_makes_a_write_a_read_is_refused(opened: Opened, proxy: Proxy) -> None:
    store = opened()
    store.write(Write("a/x", {"n": 1}))
    proxy.answer_headers = {"Location": "/v1/secret/data/elsewhere"}
    proxy.faults = [("POST|PUT", 301, 1)]
    assert "redirects to another address; give that one" in refused(store.write, Write("a/x", {"n": 2}, 1))


def test_an_answer_that_is_cut_off_is_asked_for_again(opened: Opened, proxy: Proxy) -> None:
    store = opened()
    store.write(Write("a/x", {"n": 1}))
    proxy.faults = [(".", "cut", 2)]
    assert store.read("a/x")
    proxy.faults = [("POST|PUT", "cut", 1)]
    store.write(Write("a/x", {"n": 2}, 1))
    assert opened().read("a/x").version == 2  # type: ignore[union-attr]


def test_in_a_namespace(bao: Bao) -> None:
    name = f"team{secrets.token_hex(4)}"
    bao.client().adapter.post(f"/v1/sys/namespaces/{name}")

    def connect(adapter: type) -> hvac.Client:
        return hvac.Client(url=bao.address, token=bao.root_token, namespace=name, adapter=adapter)

    client = connect(hvac.adapters.JSONAdapter)
    client.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    store = VaultKVStore(connect, engine_mount_point="secret", kv_path="a", mount="m", log=lambda _line: None)
    store.write(Write("a/x", {"n": 1}))
    assert store.read("a/x")
    assert [one.path for one in store.scan("a/")] == ["a/x"]
    assert client.secrets.kv.v2.read_secret_version("a/m/a/x", raise_on_deleted_version=True)


def test_long_lists_are_read_page_by_page(opened: Opened, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_engine, "PAGE", 3)
    store = opened()
    for count in range(8):
        assert {document.path for document in store.scan("a/")} == {f"a/k{number}" for number in range(count)}
        store.write(Write(f"a/k{count}", {}))
    lists = [request for request, _headers in proxy.seen if "list=true" in request]
    assert any("after=" in urlsplit(request.split()[1]).query for request in lists)
