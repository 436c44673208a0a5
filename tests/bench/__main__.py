# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints each budget of the design that applies: the measured figure, the reference measured in the same run, the ratio.

Not a test: nothing here passes or fails, since a busy machine is no defect. BENCH_ONLY names measures, with commas between them,
if not all are to be made.
"""

from __future__ import annotations

import inspect
import os
import platform
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / ".build" / "collections")]

from amounts import bulk, claims, definitions, listing, many_leases, refusals, timed_cleanup
from bao import Vault, start_raft
from double.client import Double
from lab import PROJECT, Lab, new_lab
from tasks import calls_and_writes, imports, lookups, tasks_of_ours
from together import controllers, hosts, storms

ONLY = os.environ.get("BENCH_ONLY")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Double(projects=[PROJECT]) as double:
        print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.machine()}\n")
        labs = iter(range(100))

        def measure(store: str, vault: Vault | None) -> None:
            def lab() -> Lab:
                node = new_lab(Path(folder) / f"node{next(labs)}", double, vault)
                node.configure()
                double.clear_requests()
                return node

            print(f"\n{store}\n")
            print("| what | measured | reference in the same run | ratio | budget |")
            print("|---|---|---|---|---|")
            for measured in (
                calls_and_writes,
                tasks_of_ours,
                lookups,
                imports,
                listing,
                timed_cleanup,
                bulk,
                storms,
                controllers,
                hosts,
                claims,
                refusals,
                definitions,
                many_leases,
            ):
                if (measured is imports and vault) or (ONLY and measured.__name__ not in ONLY.split(",")):
                    continue
                measured(*(lab() for _lab in inspect.signature(measured).parameters))

        measure("Vaulted files", None)
        cluster = start_raft(Path(folder) / "raft")
        try:
            measure("OpenBao with TLS and Raft storage on this machine, AppRole", cluster)
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
