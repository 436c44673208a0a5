# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that all tests share."""

from __future__ import annotations

import itertools
import mmap
import os
import re
import signal
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest

# ansible-test imports this by the name of the collection, and knows neither pyproject.toml nor the Makefile.
ANSIBLE_TEST = __name__ != "conftest"
if ANSIBLE_TEST:
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "unit")]
    os.environ["OPENAI_CREDS_TEST_COLLECTIONS"] = os.environ["ANSIBLE_COLLECTIONS_PATH"]

from double.client import Double
from lab import MARKER, PROJECT, Lab, new_lab
from pushgateway import Pushgateway

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import shared_memory as run_memory

if t.TYPE_CHECKING:
    from bao import Bao, Cluster


_KEY = re.compile(rf"sk-[\w-]*{MARKER}[\w-]*")
MARKERS = (
    "alone: measures seconds; make test runs these when the others are done",
    "long: takes minutes of a processor; make test-long and .ci/run run these, make test and ansible-test the others",
    "slow: takes a minute or more; each worker begins with one of these",
    "once: shows the same on every Python and ansible-core; only the first leg of .ci/run runs these",
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and set signals.

    Programs that tests start can be ended by them, also where nohup or a shell's & has had them ignored.
    """
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if ANSIBLE_TEST:
        config.option.markexpr = "not long"
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have each worker begin with what takes long: were it the last, the others would wait for it.

    A worker gets one part of the tests, as long as those of the others. OPENAI_CREDS_TEST_ALONE (no, only) says what becomes of
    tests that want to be alone.
    """
    if alone := os.environ.get("OPENAI_CREDS_TEST_ALONE"):
        wanted: dict[bool, list[pytest.Item]] = {True: [], False: []}
        for item in items:
            wanted[bool(item.get_closest_marker("alone")) is (alone == "only")].append(item)
        items[:] = wanted[True]
        config.hook.pytest_deselected(items=wanted[False])
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = iter([item for item in items if not item.get_closest_marker("slow")])
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    sizes = [len(items) // workers + (worker >= workers - len(items) % workers) for worker in range(workers)]
    parts = []
    for worker, size in enumerate(sizes):
        first = slow[worker::workers]
        parts += [*first, *itertools.islice(quick, max(0, size - len(first)))]
    items[:] = [*parts, *quick]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> t.Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show no key in the report of a test, also where a failed assertion was on one."""
    report = yield
    if MARKER in (text := str(report.longrepr)):
        report.longrepr = _KEY.sub("(a key)", text)
    report.sections = [(title, _KEY.sub("(a key)", text)) for title, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test has logged in for another."""
    for memory in (run_memory.SERVERS, run_memory.FILES, run_memory.REFUSALS):
        monkeypatch.setattr(memory, "_memory", mmap.mmap(-1, memory._size))


@pytest.fixture(scope="session")
def running_double() -> t.Iterator[Double]:
    with Double(organization="org-lab", projects=[PROJECT], secret_marker=MARKER) as double:
        yield double


@pytest.fixture
def double(running_double: Double) -> Double:
    """The OpenAI double, as new."""
    running_double.reset()
    if young := os.environ.get("OPENAI_CREDS_TEST_YOUNG"):
        # OpenAI may need some seconds to know everywhere what has just been made.
        running_double.settings(young_not_found=float(young))
    return running_double


@pytest.fixture
def lab_store() -> str:
    """Which store the lab has. A module that runs on others as well has `pytestmark = BOTH_STORES`."""
    return "vaulted_file"


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path, double: Double, lab_store: str) -> Lab:
    """A control node that nothing has been done on yet."""
    vault: Bao | None = request.getfixturevalue("bao") if lab_store == "vault_kv" else None
    return new_lab(tmp_path / "node", double, vault)


@pytest.fixture
def pushgateway() -> t.Iterator[Pushgateway]:
    """A stand-in for a Pushgateway, which keeps what it is given."""
    gateway = Pushgateway()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Bao]:
    """An OpenBao server in memory, with KV v2 at secret/. It is not as new: use a mount or kv_path of your own."""
    from bao import start_dev

    server = start_dev(tmp_path_factory.mktemp("bao"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def raft(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Cluster]:
    """One OpenBao server with TLS and storage on disk. It is not as new either."""
    from bao import start_raft

    server = start_raft(tmp_path_factory.mktemp("raft"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Cluster]:
    from bao import start_raft

    servers = start_raft(tmp_path_factory.mktemp("cluster"), 3)
    yield servers
    servers.stop()


@pytest.fixture
def cluster(running_cluster: Cluster) -> t.Iterator[Cluster]:
    """Three of these behind a load balancer. A test may kill them."""
    yield running_cluster
    for index, node in enumerate(running_cluster.nodes):
        if node.process.poll() is not None:
            running_cluster.restart(index)
    running_cluster.settle()


@pytest.fixture
def temporary() -> t.Iterator[Path]:
    """A folder for temporary files. Its path is short, since Ansible makes sockets below it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
