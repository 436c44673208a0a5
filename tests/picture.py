# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the dashboard: its own queries, answered by a real Prometheus, about a mount that is at work for some minutes.

Grafana itself cannot be had from the registries that the project uses. So matplotlib draws the panels, where the dashboard has
them; make picture calls this.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / ".build" / "collections")]

import matplotlib

matplotlib.use("Agg")
from double.client import Double
from lab import PROJECT, Lab, new_lab
from matplotlib import pyplot
from monitoring import ask, free_port, get, program, start, until

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import write_config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.accounts import write_library_set
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_out import check_out
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.api_errors import record_api_errors
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.exposition import write_textfile
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.gauges import collect
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

DASHBOARD = ROOT / "docs" / "grafana" / "openai_creds.json"
RULES = ROOT / "docs" / "prometheus" / "openai_creds.rules.yml"
SECONDS = 180
DAY = 86400
ROLES = ("my-role", "batch", "reports")
INK, PAPER, PANEL, GRID = "#d8d9da", "#111217", "#181b1f", "#2c3235"
COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#fade2a")


def main() -> None:
    with tempfile.TemporaryDirectory() as name, Double(projects=[PROJECT]) as double:
        folder = Path(name)
        (folder / "textfiles").mkdir()
        lab = new_lab(folder / "node", double, None)
        mount = lab.configure()
        with prometheus(folder) as server:
            began = time.time()
            work(lab, mount, folder / "textfiles" / "openai_creds.prom", until=began + SECONDS)
            draw(server, began, time.time(), Path(sys.argv[1]))


@contextlib.contextmanager
def prometheus(folder: Path) -> t.Iterator[str]:
    """Run a Prometheus with the collection's rules, which scrapes a node_exporter; yields its address."""
    ports = [free_port(), free_port()]
    scraped = {"job_name": "node", "static_configs": [{"targets": [f"127.0.0.1:{ports[0]}"]}]}
    config = {
        "global": {"scrape_interval": "2s", "evaluation_interval": "2s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [scraped],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    exporter = (
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={folder}/textfiles",
    )
    server = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    listen = [f"--web.listen-address=127.0.0.1:{port}" for port in ports]
    running: list[subprocess.Popen[bytes]] = []
    try:
        running.append(start(folder / "exporter.log", program("prometheus-node-exporter"), listen[0], *exporter))
        running.append(start(folder / "prometheus.log", program("prometheus"), listen[1], *server))
        found = f"http://127.0.0.1:{ports[1]}"
        until(lambda: get(f"{found}/-/ready"))
        yield found
    finally:
        for process in running:
            process.kill()
            process.wait()


def work(lab: Lab, mount: Mount, textfile: Path, until: float) -> None:
    """Issue, revoke, check out and clean up, with an OpenAI that now and then refuses, and write the metrics each few seconds."""
    choose = random.Random(1)
    for role in ROLES[1:]:
        lab.role(role)
    keep: dict[str, t.Any] = dict.fromkeys(("admin_api_key", "admin_api_key_id", "organization_id", "api_endpoint"))
    write_config(mount, **keep, rotation_period="30d", replace_key=False, validate=False, dry_run=False)
    accounts = {"project": "lab", "service_account_names": [f"pool-{number}" for number in range(1, 6)]}
    write_library_set(mount, "pool", **accounts, defaults={"max_ttl": "1h", "description": ""}, dry_run=False)
    lab.double.costs([{"value": 12.4, "start_time": int(time.time()), "project_id": PROJECT}])
    while time.time() < until:
        phase = 1 - (until - time.time()) / SECONDS
        if 0.45 < phase < 0.55:
            lab.double.fault(kind="refuse", status=choose.choice((429, 500)), times=1, retry_after=0)
        with contextlib.suppress(OpenAICredsError):
            for role in ROLES[: choose.randrange(1, 4)]:
                issue(mount, role, choose.randrange(20, 90))
            if choose.random() < 0.2:
                check_out(mount, "pool", choose.randrange(15, 40))
            found = [record for record in records(mount) if record.status == "active"]
            revoke(mount, choose.sample(found, min(len(found), choose.randrange(3))))
            if phase % 0.1 < 0.03:
                cleanup(mount, orphans="report", max_concurrency=4, limit=None, grace=600, dry_run=False)
        record_api_errors(mount)
        write_textfile(str(textfile), mount.name, collect(mount, DAY).metrics)
        time.sleep(1.5)


def draw(server: str, began: float, ended: float, target: Path) -> None:
    """Draw each panel where the dashboard has it."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = pyplot.figure(figsize=(14, rows * 0.36), dpi=100, facecolor=PAPER)
    for panel in panels:
        at = panel["gridPos"]
        box = (at["x"] / 24, 1 - (at["y"] + at["h"]) / rows, at["w"] / 24, at["h"] / rows)
        inner = (box[0] + 0.035, box[1] + 0.035, box[2] - 0.05, box[3] - 0.07)
        axes = figure.add_axes(inner, facecolor=PANEL)
        axes.set_title(panel["title"], color=INK, fontsize=10, loc="left")
        axes.tick_params(colors=INK, labelsize=8)
        for side in axes.spines.values():
            side.set_color(GRID)
        drawing = _draw_lines if panel["type"] == "timeseries" else _draw_values
        drawing(axes, server, panel, began, ended)
    figure.savefig(target, facecolor=PAPER)


def _series(server: str, panel: dict[str, t.Any], **times: t.Any) -> t.Iterator[tuple[str, list[tuple[float, float]]]]:
    for one in panel["targets"]:
        for found in ask(server, one["expr"].replace("$mount", ".*"), **times):
            labels = found["metric"]
            name = re.sub(r"{{(\w+)}}", lambda match, labels=labels: labels.get(match[1], ""), one["legendFormat"])
            points = found.get("values") or [found["value"]]
            yield name, [(float(when), float(value)) for when, value in points]


def _draw_lines(axes: t.Any, server: str, panel: dict[str, t.Any], began: float, ended: float) -> None:
    per = DAY if panel["fieldConfig"]["defaults"]["unit"] == "s" else 1
    for number, (name, points) in enumerate(_series(server, panel, start=began + 10, end=ended, step=2)):
        times = [(when - began) / 60 for when, _value in points]
        values = [value / per for _when, value in points]
        axes.plot(times, values, label=name, color=COLOURS[number % len(COLOURS)], lw=1.5)
    axes.grid(color=GRID, lw=0.6)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes", color=INK, fontsize=7)
    if per == DAY:
        axes.set_ylabel("days", color=INK, fontsize=7)
    if axes.lines:
        axes.legend(fontsize=7, facecolor=PANEL, edgecolor=GRID, labelcolor=INK, loc="upper left")


def _draw_values(axes: t.Any, server: str, panel: dict[str, t.Any], _began: float, _ended: float) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    unit = {"s": " s", "currencyUSD": " USD"}.get(panel["fieldConfig"]["defaults"]["unit"], "")
    lines = [f"{points[-1][1]:.4g}{unit}" for _name, points in _series(server, panel)]
    axes.text(0.5, 0.5, "\n".join(lines) or "0", color=COLOURS[0], fontsize=22, ha="center", va="center")


if __name__ == "__main__":
    main()
