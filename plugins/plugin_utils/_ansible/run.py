# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which process is the run."""

from __future__ import annotations

import multiprocessing
import os

from .._engine.run.processes import set_run


def identify_run() -> None:
    """Let the engine know the main process of this run: the parent of one of Ansible's workers, else this process.

    A parent alone says nothing, since a run may itself be the child of a pool of processes.
    """
    # Whatever runs tasks has imported this already.
    from ansible.executor.process.worker import WorkerProcess

    parent = multiprocessing.parent_process()
    is_worker = isinstance(multiprocessing.current_process(), WorkerProcess)
    set_run(parent.pid if is_worker and parent is not None and parent.pid else os.getpid())
