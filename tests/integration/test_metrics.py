# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics, through real ansible-playbook processes: what is counted, written and pushed."""

from __future__ import annotations

import json
import re
import socket
import stat
import threading
import time
import typing as t

import pytest
from integration.test_modules import results
from lab import BOTH_STORES, MARKER, PROJECT, Lab
from prometheus_client.parser import text_string_to_metric_families
from pushgateway import Pushgateway

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.exposition import push

Labels = frozenset[tuple[str, str]]


def told(text: str) -> dict[tuple[str, Labels], float]:
    """Return the samples of an exposition, read by Prometheus' own client."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: dict[tuple[str, Labels], float], name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset({"mount": "openai", **labels}.items())))


def written(lab: Lab, **more: t.Any) -> dict[tuple[str, Labels], float]:
    path = lab.path / "openai_creds.prom"
    results(lab, [{"ephemeral.openai.openai_metrics": {"textfile": str(path), **more}}])
    return told(path.read_text())


@BOTH_STORES
def test_what_playbooks_did_is_counted(lab: Lab) -> None:
    lab.configure()
    lab.role("idle")
    lab.double.fault(kind="refuse", status=429, method="POST", times=1)
    tasks: list[dict[str, t.Any]] = [
        {"ephemeral.openai.openai_creds": {"name": "my-role", "count": 3}},
        {"ephemeral.openai.openai_lease": {"lease_id": "{{ result_0.creds_list[0].lease_id }}"}},
        {
            "ephemeral.openai.openai_library_set": {
                "name": "pool",
                "project": "lab",
                "service_account_names": ["a", "b"],
            }
        },
        {"ephemeral.openai.openai_library_checkout": {"name": "pool"}},
        {"ephemeral.openai.openai_cleanup": {}},
    ]
    results(lab, tasks)
    before = time.time()
    samples = written(lab)
    assert value(samples, "openai_creds_issued_total", role="my-role") == 3
    assert value(samples, "openai_creds_revoked_total", role="my-role") == 1
    assert value(samples, "openai_creds_issued_total", role="idle") == 0
    assert value(samples, "openai_creds_issued_total", role="library/pool") == 1
    assert value(samples, "openai_creds_leases", role="my-role", status="active") == 2
    assert value(samples, "openai_creds_leases", role="my-role", status="expired") == 0
    for status in ("available", "checked_out"):
        assert value(samples, "openai_creds_library_accounts", library_set="pool", status=status) == 1
    endpoint = "/organization/projects/{project_id}/service_accounts"
    assert value(samples, "openai_api_error_total", endpoint=endpoint, code="429") == 1
    assert 0 <= before - t.cast(float, value(samples, "openai_creds_last_cleanup_timestamp_seconds")) < 60
    assert value(samples, "openai_creds_last_rotation_timestamp_seconds") == 0
    results(lab, [{"ephemeral.openai.openai_admin_key": {"rotate": "always"}}])
    samples = written(lab)
    assert 0 <= time.time() - t.cast(float, value(samples, "openai_creds_last_rotation_timestamp_seconds")) < 60
    assert t.cast(float, value(samples, "openai_creds_admin_key_age_seconds")) < 60


@pytest.mark.once
def test_leases_that_end_otherwise_are_counted(lab: Lab) -> None:
    """By the end of their run, by cleanup when they are due, and when OpenAI refuses to end them."""
    lab.configure()
    lookup = "{{ lookup('ephemeral.openai.openai_creds', 'my-role') is mapping }}"
    run = lab.play(
        [{"ansible.builtin.debug": {"msg": lookup}}],
        env={"ANSIBLE_CALLBACKS_ENABLED": "ephemeral.openai.openai_leases"},
    )
    assert run.rc == 0, run.out
    samples = written(lab)
    assert value(samples, "openai_creds_revoked_total", role="my-role") == 1
    results(lab, [{"ephemeral.openai.openai_creds": {"name": "my-role", "ttl": "2s"}}])
    time.sleep(3)
    assert value(written(lab), "openai_creds_leases", role="my-role", status="expired") == 1
    lab.double.fault(kind="refuse", status=403, method="DELETE")
    results(lab, [{"ephemeral.openai.openai_cleanup": {}}], rc=2)
    samples = written(lab)
    assert value(samples, "openai_creds_leases", role="my-role", status="failed") == 1
    assert value(samples, "openai_creds_revoked_total", role="my-role") == 1
    assert value(samples, "openai_creds_last_cleanup_timestamp_seconds") == 0
    lab.double.clear_faults()
    results(lab, [{"ephemeral.openai.openai_cleanup": {}}])
    samples = written(lab)
    assert value(samples, "openai_creds_issued_total", role="my-role") == 2
    assert value(samples, "openai_creds_revoked_total", role="my-role") == 2


def test_the_textfile_may_be_read_by_all_and_holds_no_secret(lab: Lab) -> None:
    lab.configure()
    results(lab, [{"ephemeral.openai.openai_creds": {"name": "my-role"}}])
    path = lab.path / "openai_creds.prom"
    path.write_text("what was there before")
    path.chmod(0o600)
    [result] = results(lab, [{"ephemeral.openai.openai_metrics": {"textfile": str(path)}}])
    assert result["changed"] and stat.S_IMODE(path.stat().st_mode) == 0o644
    assert MARKER not in path.read_text() and MARKER not in json.dumps(result)
    assert [one.name for one in path.parent.iterdir() if "openai_creds.prom" in one.name] == ["openai_creds.prom"]
    text = path.read_text()
    for name, samples in result["metrics"].items():
        assert f"# HELP {name} " in text
        for sample in samples:
            assert told(text)[name, frozenset(sample["labels"].items())] == sample["value"]
    before = path.read_bytes()
    [checked] = results(lab, [{"ephemeral.openai.openai_metrics": {"textfile": str(path)}}], "--check")
    assert checked["changed"] and path.read_bytes() == before


def test_metrics_are_pushed(lab: Lab, pushgateway: Pushgateway) -> None:
    lab.configure()
    module = "ephemeral.openai.openai_metrics"
    results(
        lab,
        [
            {module: {"pushgateway": pushgateway.address}},
            {module: {"pushgateway": f"http://{pushgateway.address}", "job": "mine"}},
        ],
    )
    assert sorted(pushgateway.pushed) == [
        "/metrics/job/mine/mount/openai",
        "/metrics/job/openai_creds/mount/openai",
    ]
    for text in pushgateway.pushed.values():
        assert value(told(text), "openai_creds_issued_total", role="my-role") == 0
    pushgateway.status = 503
    [refused] = results(lab, [{module: {"pushgateway": pushgateway.address}}], rc=2)
    assert refused["msg"] == f"pushgateway: {pushgateway.address} refused the metrics with status 503"


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 x\r\n\r\n"], ids=repr)
def test_what_answers_is_not_http(greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(2**16)
                connection.sendall(greeting)

        threading.Thread(target=serve, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(OpenAICredsError) as error:
            push(address, "job", "openai", [])
    assert str(error.value) == (
        f"pushgateway: the metrics could not be pushed to {address}: what answers there is not HTTP"
    )


def test_a_proxy_that_is_of_no_use_for_pushing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", "socks5://somebody:SECRET@localhost:1080")
    with pytest.raises(OpenAICredsError) as error:
        push("pushgateway.invalid", "job", "openai", [])
    assert str(error.value) == (
        "pushgateway: the metrics could not be pushed to pushgateway.invalid: unknown url type: socks5"
    )


def test_what_is_wrong_is_one_sentence(lab: Lab) -> None:
    module = "ephemeral.openai.openai_metrics"
    [unconfigured] = results(lab, [{module: {}}], rc=2)
    assert "OpenAI client not configured" in unconfigured["msg"]
    assert not lab.store_path.exists()
    lab.configure()
    wrong = [
        ({"textfile": "here.prom"}, "textfile: 'here.prom' is not an absolute path"),
        ({"textfile": str(lab.path / "nowhere" / "x.prom")}, "No such file or directory"),
        (
            {"pushgateway": "127.0.0.1:1"},
            "pushgateway: the metrics could not be pushed to 127.0.0.1:1: Connection refused",
        ),
        ({"pushgateway": "http://me:SECRET@localhost"}, "without user and password"),
        ({"pushgateway": "ftp://localhost"}, "is not an address such as localhost:9091"),
        ({"pushgateway": "local host:9091"}, "is not an address such as localhost:9091"),
        ({"pushgateway": "localhost:9091", "job": " "}, "job: it is empty"),
        ({"costs_window": "long"}, "costs_window: 'long' is not a duration"),
        ({"costs_window": "400d"}, "costs_window: 400d is longer than 366 days"),
    ]
    found = results(lab, [{module: args} for args, _msg in wrong], rc=2)
    for result, (args, msg) in zip(found, wrong, strict=True):
        assert result["failed"] and msg in result["msg"], (args, result)
        assert "SECRET" not in result["msg"] and "Traceback" not in result["msg"]


def test_only_writing_needs_the_package(lab: Lab) -> None:
    lab.configure()
    hidden = lab.path / "hidden"
    hidden.mkdir()
    # A finder that knows no prometheus_client, in the interpreter of ansible-playbook alone.
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util, sys\n"
        "true = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'prometheus_client' else true(name, *more)\n"
        "sys.modules['prometheus_client'] = None\n"
    )
    lab.env["PYTHONPATH"] = str(hidden)
    module = "ephemeral.openai.openai_metrics"
    [without] = results(lab, [{module: {}}])
    assert "openai_creds_issued_total" in without["metrics"] and not without["changed"]
    for option in ("textfile", "pushgateway"):
        [missing] = results(
            lab, [{module: {option: str(lab.path / "x.prom") if option == "textfile" else "localhost"}}], rc=2
        )
        assert f"{option}: openai_metrics needs the Python package prometheus-client" in missing["msg"]


def test_without_cronsim_only_what_a_schedule_says_is_missing(lab: Lab) -> None:
    mount = lab.configure()

    def schedule(data: dict[str, t.Any]) -> bool:
        ends = {"rotation_schedule": "0 3 * * 0", "admin_api_key_expires_at": int(time.time()) + 86400}
        data["config"].update(ends)
        return True

    mount.define(schedule)
    issue(mount, "my-role", 1)
    time.sleep(1.1)
    hidden = lab.path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['cronsim'] = None\n")
    lab.env["PYTHONPATH"] = str(hidden)
    cleaned, told = results(lab, [{"ephemeral.openai.openai_cleanup": {}}, {"ephemeral.openai.openai_metrics": {}}])
    assert len(cleaned["revoked"]) == 1 and "cronsim" in cleaned["warnings"][0]
    assert "openai_creds_next_rotation_timestamp_seconds is left out" in told["warnings"][0]
    assert "openai_creds_admin_key_age_seconds" in told["metrics"]
    assert "openai_creds_next_rotation_timestamp_seconds" not in told["metrics"]


@pytest.mark.once
def test_what_was_spent(lab: Lab) -> None:
    lab.configure()
    today = int(time.time())
    lab.double.costs(
        [
            {"value": 1.5, "start_time": today, "project_id": PROJECT, "api_key_id": "key_1"},
            {"value": 0.25, "start_time": today, "project_id": PROJECT, "api_key_id": "key_2"},
            {"value": 4.0, "start_time": today - 86400, "project_id": PROJECT},
            {"value": 16.0, "start_time": today - 7 * 86400, "project_id": PROJECT},
            {"value": 2.0, "start_time": today, "project_id": "proj_other"},
            {"value": 64.0, "start_time": today, "project_id": PROJECT, "currency": "eur"},
        ]
    )
    assert "openai_quota_used" not in {name for name, _labels in written(lab)}
    samples = written(lab, costs=True)
    assert not [name for name, _labels in samples if name == "openai_creds_lease_cost"]
    assert value(samples, "openai_quota_used", project="lab") == 1.75
    assert value(samples, "openai_quota_used", project="proj_other") == 2
    [week] = results(lab, [{"ephemeral.openai.openai_metrics": {"costs": True, "costs_window": "7d"}}])
    assert {one["labels"]["project"]: one["value"] for one in week["metrics"]["openai_quota_used"]}["lab"] == 5.75
    assert week["warnings"] == ["costs: OpenAI also reports costs in eur; only those in usd are counted"]
    lab.double.fault(kind="refuse", status=403, method="GET")
    path = lab.path / "openai_creds.prom"
    path.unlink()
    [refused] = results(lab, [{"ephemeral.openai.openai_metrics": {"textfile": str(path), "costs": True}}], rc=2)
    assert refused["msg"].startswith("costs: what was spent is not known: ")
    assert value(told(path.read_text()), "openai_creds_issued_total", role="my-role") == 0


def test_what_a_lease_has_spent(lab: Lab) -> None:
    lab.configure()
    mount = lab.mount()
    first, second, _unused = (issue(mount, "my-role") for _each in range(3))
    costs = [(first, 1.5), (first, 0.25), (second, 4.0)]
    gone = issue(mount, "my-role")
    lab.double.costs(
        [
            {"value": amount, "start_time": int(time.time()), "project_id": PROJECT, "api_key_id": creds["api_key_id"]}
            for creds, amount in (*costs, (gone, 8.0))
        ]
    )
    revoke(mount, active_records(mount, [gone["lease_id"]]))
    samples = written(lab, costs=True)
    spent = {
        dict(labels)["lease_id"]: (dict(labels)["role"], amount)
        for (name, labels), amount in samples.items()
        if name == "openai_creds_lease_cost"
    }
    assert spent == {first["lease_id"]: ("my-role", 1.75), second["lease_id"]: ("my-role", 4.0)}
    assert value(samples, "openai_quota_used", project="lab") == 13.75


def test_the_playbook(lab: Lab, pushgateway: Pushgateway) -> None:
    lab.configure()
    path = lab.path / "a b.prom"
    variables = {"openai_creds_metrics_textfile": str(path), "openai_creds_metrics_pushgateway": pushgateway.address}
    command = ("ansible-playbook", "ephemeral.openai.metrics")
    done = lab.command(*command, "-e", json.dumps(variables))
    assert done.rc == 0, done.out
    assert told(path.read_text()) and pushgateway.pushed
    failed = lab.command(*command)
    assert failed.rc == 2
    assert "openai_creds_metrics_textfile: give the file to write" in re.sub(r"\s+", " ", failed.out)
