# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus itself: its rules, and a server that scrapes node_exporter and a Pushgateway."""

from __future__ import annotations

import json
import re
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml
from integration.test_modules import results
from lab import Lab
from monitoring import ask, free_port, get, program, start, until

ROOT = Path(__file__).resolve().parent.parent.parent
RULES = ROOT / "docs" / "prometheus" / "openai_creds.rules.yml"
CASES = ROOT / "tests" / "prometheus" / "rules_test.yml"
DASHBOARD = ROOT / "docs" / "grafana" / "openai_creds.json"
pytestmark = pytest.mark.once


def test_the_rules_are_valid_and_do_what_the_cases_say() -> None:
    promtool = program("promtool")
    for command in (("check", "rules", str(RULES)), ("test", "rules", CASES.name)):
        done = subprocess.run([promtool, *command], cwd=CASES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test.get("alert_rule_test", ())]
    assert alerts == {case["alertname"] for case in cases if case["exp_alerts"]}
    assert alerts == {case["alertname"] for case in cases if not case["exp_alerts"]}


def test_rules_dashboard_and_guide_name_only_metrics_that_there_are(lab: Lab) -> None:
    lab.configure()
    set_args = {"name": "pool", "project": "lab", "service_account_names": ["a"]}
    tasks: list[dict[str, t.Any]] = [
        {"ephemeral.openai.openai_config": {"rotation_period": "30d"}},
        {"ephemeral.openai.openai_library_set": set_args},
        {"ephemeral.openai.openai_metrics": {"costs": True}},
    ]
    there = set(results(lab, tasks)[2]["metrics"])
    recorded = {"openai_creds_issued", "openai_creds_revoked", "openai_api_error"}
    pattern = r"\b(openai_(?:creds_\w+_(?:total|seconds)|creds_(?:leases|unreadable|library_accounts|issued|revoked)|api_error\w*|quota_used))\b"
    for path in (RULES, DASHBOARD):
        assert set(re.findall(pattern, path.read_text())) <= there | recorded, path
    described = set(re.findall(r"^\| `(openai_\w+)[`{]", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    assert described == there | recorded


def test_a_dashboard_that_grafana_takes() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _y in cells) < 24 and not cells & taken
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


@pytest.fixture
def stack(tmp_path: Path) -> t.Iterator[tuple[Path, str, str]]:
    """A Prometheus with our rules, which scrapes a node_exporter and a Pushgateway: folder, addresses of the two that are used."""
    ports = {name: free_port() for name in ("prometheus", "prometheus-node-exporter", "prometheus-pushgateway")}
    programs = {name: program(name) for name in ports}
    folder = tmp_path / "textfiles"
    folder.mkdir()
    jobs = [
        {"job_name": "node", "static_configs": [{"targets": [f"127.0.0.1:{ports['prometheus-node-exporter']}"]}]},
        {
            "job_name": "pushgateway",
            "honor_labels": True,
            "static_configs": [{"targets": [f"127.0.0.1:{ports['prometheus-pushgateway']}"]}],
        },
    ]
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump({"global": every, "rule_files": [str(RULES)], "scrape_configs": jobs}))
    listening = {name: f"--web.listen-address=127.0.0.1:{port}" for name, port in ports.items()}
    arguments = {
        "prometheus": [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"],
        "prometheus-node-exporter": [
            "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={folder}",
        ],
        "prometheus-pushgateway": [],
    }
    running = [start(tmp_path / f"{name}.log", programs[name], listening[name], *arguments[name]) for name in ports]
    try:
        yield folder, f"127.0.0.1:{ports['prometheus-pushgateway']}", f"http://127.0.0.1:{ports['prometheus']}"
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_prometheus_answers_what_the_collection_did(lab: Lab, stack: tuple[Path, str, str]) -> None:
    folder, gateway, prometheus = stack
    lab.configure()
    until(lambda: get(f"http://{gateway}/-/ready"))
    metrics = {"textfile": str(folder / "openai_creds.prom"), "pushgateway": gateway}
    tasks: list[dict[str, t.Any]] = [
        {"ephemeral.openai.openai_creds": {"name": "my-role", "count": 3}},
        {"ephemeral.openai.openai_lease": {"lease_id": "{{ result_0.creds_list[0].lease_id }}"}},
        {"ephemeral.openai.openai_metrics": metrics},
    ]
    results(lab, tasks)
    for job, query, value in (
        ("node", "openai_creds_issued_total", "3"),
        ("openai_creds", "openai_creds_issued_total", "3"),
        ("node", "openai_creds_revoked_total", "1"),
        ("openai_creds", 'openai_creds_leases{status="active"}', "2"),
    ):
        found = until(
            lambda query=query, job=job: [one for one in ask(prometheus, query) if one["metric"]["job"] == job]
        )
        assert [one["value"][1] for one in found if one["metric"]["role"] == "my-role"] == [value]
    for query, value in (("openai_creds_issued", "3"), ("openai_creds_revoked", "1")):
        [found] = until(lambda query=query: ask(prometheus, f'{query}{{role="my-role"}}'))
        assert found["value"][1] == value
    alerts = until(lambda: json.loads(get(f"{prometheus}/api/v1/alerts") or "{}").get("data", {}).get("alerts"))
    assert [one["labels"]["alertname"] for one in alerts] == ["OpenAICredsCleanupLate"]
