# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands between a store and its Vault, or is missing there: each is ridden out, or said in one sentence."""

from __future__ import annotations

import base64
import json
import random
import secrets
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

import hvac
import pytest
from gateway import Opened, Proxy, base_of, refused

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import Conflict, UnreadableError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store import vault_http, vault_traffic
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_kv import VaultKVStore

if t.TYPE_CHECKING:
    from bao import Bao, Cluster


def engine(bao: Bao, **options: str) -> str:
    """Mount a secrets engine somewhere new; returns where."""
    name = f"e{secrets.token_hex(4)}"
    bao.client().sys.enable_secrets_engine("kv", path=name, options=options or {"version": "2"})
    if not options:
        bao.await_kv(name)
    return name


def token_with(bao: Bao, rules: str, **options: t.Any) -> str:
    policy = f"p{secrets.token_hex(4)}"
    bao.client().sys.create_or_update_policy(policy, rules)
    made = bao.client().auth.token.create(policies=[policy], no_default_policy=True, ttl="5m", **options)
    return str(made["auth"]["client_token"])


def incremented(store: VaultKVStore, path: str) -> int:
    while True:
        document = store.read(path)
        number = document.data["n"] + 1 if document else 1
        try:
            store.write(Write(path, {"n": number}, document.version if document else 0))
        except Conflict:
            continue
        return int(number)


# Exactly once


@pytest.mark.parametrize("kept", [1, 10])
@pytest.mark.parametrize("others", [1, 12])
def test_a_write_is_found_below_what_others_have_written_on_top(
    opened: Opened, proxy: Proxy, bao: Bao, kept: int, others: int
) -> None:
    """Its answer got lost, and it was made again after them; also where Vault keeps one version only."""
    store, other = opened(), opened()
    assert incremented(store, "a/x") == 1
    bao.client().write_data(f"secret/metadata/{base_of(store)}/a/x", data={"max_versions": kept})
    assert other.read("a/x")
    send, first = proxy.take, threading.Event()

    def lost_then_overtaken(request: str) -> t.Any:
        if request.startswith("POST") and not first.is_set():
            first.set()
            return "lose"
        if request.startswith("POST") and threading.current_thread() is not overtaking.get("thread"):
            overtaking["thread"] = threading.current_thread()
            proxy.take = send  # type: ignore[method-assign]
            for _unused in range(others):
                incremented(other, "a/x")
        return None

    overtaking: dict[str, threading.Thread] = {}
    proxy.take = lost_then_overtaken  # type: ignore[method-assign]
    assert incremented(store, "a/x") == 2
    document = opened().read("a/x")
    assert document and document.data["n"] == document.version == 2 + others


def test_a_write_that_was_overtaken_before_it_was_made_is_a_conflict(opened: Opened) -> None:
    store, other = opened(), opened()
    store.write(Write("a/x", {"n": 1}))
    for _unused in range(3):
        incremented(other, "a/x")
    with pytest.raises(Conflict):
        store.write(Write("a/x", {"n": 2}, 1))


def test_nobody_is_refused_for_being_one_of_many(opened: Opened) -> None:
    """50 change the definitions at once."""
    names = [f"n{number}" for number in range(50)]
    barrier = threading.Barrier(len(names))

    def change(name: str) -> None:
        mount = Mount("mount", opened())
        mount.store.read("definitions")
        barrier.wait()

        def add(data: t.Any) -> bool:
            data.setdefault("projects", {})[name] = {}
            return True

        assert mount.define(add)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(change, names))
    document = opened().read("definitions")
    assert document and sorted(document.data["projects"]) == sorted(names) and document.version == len(names)


# Tokens, policies, engines


def test_a_token_that_is_not_accepted_is_told_apart_from_a_policy(opened: Opened, bao: Bao) -> None:
    client = bao.client()
    response = client.adapter.request(
        "post", "/v1/auth/token/create", json={"policies": ["root"]}, headers={"X-Vault-Wrap-TTL": "60s"}
    )
    wrapped = response["wrap_info"]["token"]
    assert "this is a wrapping token" in refused(opened(wrapped).read, "a/x")
    # It has not been used up by that.
    assert client.sys.unwrap(wrapped)["auth"]["client_token"]

    nothing = token_with(bao, 'path "other/*" { capabilities = ["read"] }')
    assert refused(opened(nothing).read, "a/x").startswith("engine_mount_point: the token's policies give no access")
    rules = 'path "secret/*" { capabilities = ["create", "read", "update", "list", "delete"] }'
    ended = token_with(bao, rules)
    client.revoke_token(ended)
    client.write_data("auth/token/roles/far", data={"token_bound_cidrs": ["10.9.0.0/16"], "orphan": True})
    policies = {"policies": [bao.write_policy()], "no_default_policy": True}
    far = client.adapter.post("/v1/auth/token/create/far", json=policies)["auth"]["client_token"]
    for token in (ended, far, "s.nonsense"):
        text = refused(opened(token).read, "a/x")
        assert text.startswith("token: ") and "does not accept the token" in text
    counted = opened(token_with(bao, rules, num_uses=3))
    for _unused in range(3):
        counted.read("a/x")
    text = refused(counted.read, "a/x")
    assert text.startswith("token: ") and "token_num_uses" in text

    assert "there is no secrets engine at 'nowhere'" in refused(opened(bao.root_token, engine="nowhere").read, "a/x")


@pytest.mark.parametrize(
    ("tree", "missing"),
    [
        ("data", "create"),
        ("data", "read"),
        ("data", "update"),
        ("metadata", "list"),
        ("metadata", "delete"),
        ("metadata", "update"),
    ],
)
def test_a_missing_right_is_named_before_it_is_needed(opened: Opened, bao: Bao, tree: str, missing: str) -> None:
    base = base_of(opened(bao.root_token))
    data = sorted({"create", "read", "update"} - ({missing} if tree == "data" else set()))
    metadata = sorted({"list", "delete", "update"} - ({missing} if tree == "metadata" else set()))
    rules = (
        f'path "secret/data/{base}/*" {{ capabilities = {json.dumps(data)} }}\n'
        f'path "secret/metadata/{base}/*" {{ capabilities = {json.dumps(metadata)} }}'
    )
    text = refused(opened(token_with(bao, rules)).check_rights)
    assert f"its policies have to give '{missing}' on secret/{tree}/{base}/*" in text


def test_a_policy_as_documented_is_enough_and_checking_it_leaves_nothing(opened: Opened, bao: Bao) -> None:
    store = opened()
    store.check_rights()
    with pytest.raises(hvac.exceptions.InvalidPath):
        bao.client().secrets.kv.v2.list_secrets(base_of(store), mount_point="secret")


def test_an_engine_that_deletes_of_its_own_accord_is_refused_at_the_first_write(opened: Opened, bao: Bao) -> None:
    name = engine(bao)
    bao.client().write_data(f"{name}/config", data={"delete_version_after": "1h"})
    store = opened(bao.root_token, engine=name)
    for act in (store.check_rights, lambda: store.write(Write("intents/x", {}))):
        text = refused(act)
        assert "Vault is going to delete" in text and "delete_version_after" in text
    assert store.read("intents/x") is None
    # A single secret that was there before.
    plain = opened()
    plain.write(Write("definitions", {}))
    metadata = f"secret/metadata/{base_of(plain)}/definitions"
    bao.client().write_data(metadata, data={"delete_version_after": "1h"})
    assert "definitions at 2" in refused(plain.write, Write("definitions", {}, 1))


def test_what_is_going_to_vanish_is_still_read_and_warned_of(opened: Opened, bao: Bao) -> None:
    store = opened()
    store.write(Write("a/x", {"n": 1}))
    bao.client().write_data(f"secret/metadata/{base_of(store)}/a/x", data={"delete_version_after": "1h"})
    refused(store.write, Write("a/x", {"n": 2}, 1))
    warnings: list[str] = []
    document = opened(warnings=warnings).read("a/x")
    assert document and document.data == {"n": 2}
    assert len(warnings) == 1 and "going to delete" in warnings[0]


def test_a_destroyed_document_is_named_with_advice_that_is_possible(opened: Opened, bao: Bao) -> None:
    store = opened()
    store.write(Write("definitions", {}))
    bao.client().secrets.kv.v2.destroy_secret_versions(f"{base_of(store)}/definitions", [1], mount_point="secret")
    text = refused(store.read, "definitions")
    assert "destroyed" in text and "definitions" in text and "undelete" not in text


@pytest.mark.parametrize(
    "edit",
    [
        lambda _content: {},
        lambda _content: {"hello": "world"},
        lambda content: {**content, "data": content["data"].replace('"n": 1', '"m": 1')},
        lambda content: {**content, "data": json.loads(content["data"])},
        lambda content: {**content, "data": "no JSON"},
        lambda content: {**content, "due": "soon"},
        lambda content: {**content, "due": None},
        lambda content: {**content, "due": content["due"] + 1},
        lambda content: {**content, "writes": None},
        lambda content: {**content, "sum": None},
        lambda content: {name: value for name, value in content.items() if name != "data"},
    ],
)
def test_a_document_that_somebody_has_edited_is_named_and_can_be_rolled_back(
    opened: Opened, bao: Bao, edit: t.Callable[[t.Any], t.Any]
) -> None:
    store, secret = opened(), bao.client().secrets.kv.v2
    store.write(Write("a/x", {"n": 1}))
    path = f"{base_of(store)}/a/x"
    content = secret.read_secret_version(path, raise_on_deleted_version=True)["data"]["data"]
    secret.create_or_update_secret(path, edit(content), mount_point="secret")
    with pytest.raises(UnreadableError, match=f"kv_path: secret/{path} does not hold a document"):
        store.read("a/x")
    # As `vault kv rollback` does.
    secret.create_or_update_secret(path, content, mount_point="secret")
    assert store.read("a/x")


def incompressible(characters: int) -> str:
    """Return a text that takes no less when it is compressed."""
    return base64.b64encode(random.Random(0).randbytes(characters * 3 // 4)).decode()


def test_a_document_that_is_too_large_is_named_and_not_tried_again(opened: Opened, proxy: Proxy) -> None:
    """By the server's own limit, by its storage and by a gateway."""
    store = opened()
    store.read("a/x")
    large = {"text": incompressible(33 * 2**20)}
    proxy.seen.clear()
    text = refused(store.write, Write("definitions", large))
    assert "definitions would be 35" in text and "max_request_size" in text
    proxy.faults = [("POST", 413, 1)]
    assert "definitions would be" in refused(store.write, Write("definitions", {}))
    assert sum(request.startswith("POST") for request, _headers in proxy.seen) == 2


def test_storage_that_takes_less_is_named_and_not_asked_again(raft: Cluster) -> None:
    kv_path = f"openai_creds/{secrets.token_hex(8)}"
    token, lines = raft.policy_token(kv_path), list[str]()

    def connect(adapter: type) -> hvac.Client:
        return hvac.Client(url=raft.address, token=token, verify=raft.ca_cert, adapter=adapter)

    store = VaultKVStore(connect, engine_mount_point="secret", kv_path=kv_path, mount="m", log=lines.append)
    text = refused(store.write, Write("definitions", {"text": incompressible(2 * 2**20)}))
    assert "definitions would be 2" in text and "max 1048576 bytes" in text
    assert sum("POST" in line for line in lines) == 1


# Gateways


@pytest.mark.parametrize("status", [405, 501])
def test_the_verb_list_is_not_needed(opened: Opened, proxy: Proxy, status: int) -> None:
    store = opened()
    store.write(Write("a/x", {}), Write("a/b/y", {}))
    proxy.faults = [("^LIST", status, 10**6)]
    assert {document.path for document in store.scan("a/")} == {"a/x", "a/b/y"}
    proxy.faults = [("^DELETE", status, 1)]
    text = refused(store.delete, "a/x")
    assert text.startswith("url: ") and f"refuses DELETE ({status})" in text


@pytest.mark.parametrize("fault", [503, 404, 403, 405, 429, 500, "drop"])
@pytest.mark.parametrize("path", ["/v1/sys/health", "/v1/sys/"])
def test_what_a_gateway_keeps_to_itself_is_not_needed(
    opened: Opened, proxy: Proxy, fault: int | str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_traffic, "_FIRST_INTERVAL", 0.02)
    proxy.faults = [(path, fault, 10**6)]
    started = time.monotonic()
    opened().write(Write("a/x", {"n": 1}))
    document = opened().read("a/x")
    assert document and document.data == {"n": 1}
    assert time.monotonic() - started < 10
    asked = [request for request, _headers in proxy.seen if path in request]
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("kind", ["version 1", "cubbyhole"])
def test_the_wrong_engine_is_refused_also_where_sys_cannot_be_asked(
    opened: Opened, proxy: Proxy, bao: Bao, kind: str
) -> None:
    name = engine(bao, version="1") if kind == "version 1" else kind
    proxy.faults = [("/v1/sys/", 404, 10**6)]
    text = refused(opened(bao.root_token, engine=name).write, Write("a/x", {}))
    assert "has version 1" in text
    assert not [request for request, _headers in proxy.seen if request.startswith("POST")]
    assert "no secrets engine at 'nowhere'" in refused(opened(bao.root_token, engine="nowhere").read, "a/x")


def test_a_server_that_is_down_is_waited_for_once(
    opened: Opened, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_http, "RETRY_SECONDS", 1.0)
    for fault in ("drop", 503):
        opened().read("a/x")
        proxy.faults = [(".", fault, 10**6)]
        proxy.seen.clear()
        text = refused(opened().read, "a/x")
        tried = len(proxy.seen)
        assert tried > 2
        for _host in range(5):
            assert refused(opened().read, "a/x") == text
        assert len(proxy.seen) <= tried + 2 * 5
        # As soon as it is back, it is used.
        proxy.faults = []
        assert opened().read("a/x") is None
        proxy.faults = [(".", 503, 2)]
        assert opened().read("a/x") is None


@pytest.mark.parametrize("quota", [{}, {"block_interval": "3s"}])
def test_a_rate_limit_is_kept_by_all_of_a_run_together(
    opened: Opened, proxy: Proxy, bao: Bao, quota: dict[str, str]
) -> None:
    client = bao.client()
    name = engine(bao)
    client.write_data("sys/quotas/config", data={"enable_rate_limit_response_headers": True})
    client.write_data(f"sys/quotas/rate-limit/{name}", data={"path": name, "rate": 5, "interval": "1s", **quota})
    stores = [opened(bao.root_token, engine=name) for _unused in range(3)]
    statuses: list[str] = []
    for store in stores:
        store._engine._log = statuses.append
    try:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda one: [one.write(Write(f"a/{secrets.token_hex(4)}", {})) for _n in range(4)], stores))
    finally:
        client.delete(f"sys/quotas/rate-limit/{name}")
        client.write_data("sys/quotas/config", data={"enable_rate_limit_response_headers": False})
    over = sum(" 429 " in line for line in statuses)
    assert len(statuses) - over >= 12
    assert over < len(statuses) / 2


@pytest.mark.parametrize("told", ["1", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_nothing_is_asked_before_the_time_that_a_server_names(opened: Opened, proxy: Proxy, told: str) -> None:
    store = opened()
    store.read("a/x")
    proxy.answer_headers = {"Retry-After": told}
    proxy.faults = [(".", 429, 1)]
    begun = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda path: (time.sleep(0.1 * int(path[-1])), store.read(path)), ["a/0", "a/1", "a/2"]))
    assert time.monotonic() - begun >= 1.0
    assert sum(request.endswith("/a/0") for request, _headers in proxy.seen) == 2


# Redirects


def elsewhere(proxy: Proxy, location: str, status: int) -> None:
    proxy.answer_headers = {"Location": location}
    proxy.faults = [(".", status, 10**6)]


@pytest.mark.parametrize("status", [307, 308])
def test_a_standby_server_that_names_the_active_one_is_followed(
    opened: Opened, proxy: Proxy, bao: Bao, status: int
) -> None:
    store = opened()
    second = Proxy(bao.address)
    location = f"{second.url}/v1/secret/data/{base_of(store)}/a/x"
    store.read("a/x")
    elsewhere(proxy, location, status)
    store.write(Write("a/x", {"n": 1}))
    document = store.read("a/x")
    second.server.shutdown()
    second.server.server_close()
    assert document and document.data == {"n": 1}
    assert [request.split()[0] for request, _headers in second.seen] == ["POST", "GET"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_something_else_is_not_followed(opened: Opened, proxy: Proxy, bao: Bao, status: int) -> None:
    store = opened()
    store.read("a/x")
    second = Proxy(bao.address)
    elsewhere(proxy, f"{second.url}/login", status)
    for act in (lambda: store.read("a/x"), lambda: store.write(Write("a/x", {})), lambda: store.delete("a/x")):
        assert "redirects to another address; give that one" in refused(act)
    second.server.shutdown()
    second.server.server_close()
    assert second.seen == []


def test_redirects_in_a_circle_end(opened: Opened, proxy: Proxy) -> None:
    store = opened()
    store.read("a/x")
    elsewhere(proxy, f"{proxy.url}/v1/secret/data/{base_of(store)}/a/x", 307)
    assert "redirects to another address" in refused(store.read, "a/x")
