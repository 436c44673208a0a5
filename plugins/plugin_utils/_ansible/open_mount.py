# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Opening a mount: settings in, a mount out, with its store and who asks."""

from __future__ import annotations

import contextlib
import functools
import getpass
import json
import os
import socket
import typing as t
from importlib.util import find_spec

from ansible import constants as C
from ansible import context
from ansible.parsing.vault import VaultSecretsContext
from ansible.utils.display import Display

from .._engine.errors import StoreError, mask_keys, missing_package
from .._engine.mount import Mount
from .._engine.names import check_name
from .._engine.run.shared_memory import share_files
from .._engine.store.base import Store
from .._engine.store.vaulted_file import VaultedFileStore
from .options import store_outside_plays
from .run import identify_run
from .task_environment import network_environment
from .vault_options import sources


def open_mount(settings: t.Mapping[str, t.Any]) -> Mount:
    """Return the mount that settings describe; the same one each time in a process, with its connections."""
    identify_run()
    share_files(t.cast(t.Any, C).DEFAULT_LOCAL_TMP)
    # A connection is made through the proxy of its time, and the tasks of a loop may each have another.
    return _open_mount(os.getpid(), network_environment(), json.dumps(settings, sort_keys=True))


@functools.cache
def _open_mount(_process: int, _network: tuple[str | None, ...], as_json: str) -> Mount:
    secrets = VaultSecretsContext.current(optional=True)
    return make_mount(
        json.loads(as_json), secrets.secrets if secrets else [], log=Display().vvv, warn=Display().warning
    )


def make_mount(
    settings: t.Mapping[str, t.Any],
    secrets: t.Sequence[tuple[str, t.Any]],
    *,
    log: t.Callable[[str], None],
    warn: t.Callable[[str], None],
) -> Mount:
    """Return the mount that settings describe. secrets are vault secrets, as pairs of vault id and secret."""
    name = check_name(settings["mount"], "mount")
    log, warn = ignoring_output_errors(log), ignoring_output_errors(warn)

    def log_masked(line: str) -> None:
        # A path has in it what a user gave as an id.
        log(mask_keys(line))

    store: Store
    if settings["store"] == "vault_kv":
        if find_spec("hvac") is None:
            raise StoreError(missing_package("hvac", "store: vault_kv"))
        # Whoever uses the other store does not wait for it.
        from .._engine.store.vault_kv import VaultKVStore
        from .._engine.store.vault_login import connect

        store = VaultKVStore(
            functools.partial(connect, settings, sources=sources),
            engine_mount_point=settings["engine_mount_point"],
            kv_path=settings["kv_path"],
            mount=name,
            log=log_masked,
            warn=warn,
        )
    else:
        store = VaultedFileStore(
            settings["store_path"],
            name,
            secrets,
            C.config.get_config_value("DEFAULT_VAULT_ENCRYPT_IDENTITY"),
            warn,
        )
    return Mount(name, store, issued_by=_issuer(), log=log_masked, warn=warn)


def ignoring_output_errors(show: t.Callable[[str], object]) -> t.Callable[[str], None]:
    """Return a function that shows a line, or does nothing where that fails.

    The pipe may be broken, the terminal closed, the disk full. That must not stop what the line is about: a run that has lost its
    terminal still ends its leases.
    """

    def show_if_possible(line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a ValueError where the stream is closed, or lacks a character
            show(line)

    return show_if_possible


def _issuer() -> dict[str, str]:
    """Return who is asking, for the record of a lease."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    issuer = {"user": user, "controller": socket.gethostname()}
    playbooks = context.CLIARGS.get("args")
    if isinstance(playbooks, (list, tuple)) and playbooks:
        issuer["playbook"] = os.path.basename(str(playbooks[0]))
    if os.environ.get("JOB_ID"):
        issuer["job"] = os.environ["JOB_ID"]
    return issuer


def _load_ahead() -> None:
    """Import what each worker of the run would else import for itself, if it is known already that it will."""
    if store_outside_plays() == "vault_kv" and find_spec("hvac"):
        from .._engine.store import (
            vault_client,  # noqa: F401 pylint: disable=unused-import
            vault_kv,  # noqa: F401 pylint: disable=unused-import
            vault_login,  # noqa: F401 pylint: disable=unused-import
        )


_load_ahead()
