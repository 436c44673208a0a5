# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills a run with SIGKILL before its n-th event: a call to OpenAI, or a change to a file of the store or in Vault.

Python imports this by itself where it is on the path. KILL_LOG is the file in which events are counted, also across
the processes of a run; KILL_AT is the event before which the run is killed (0: never); KILL_STORE the store's folder.
What has happened just after an event is what has happened just before the next one.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import typing as t

_LOG = os.environ.get("KILL_LOG")
_AT = int(os.environ.get("KILL_AT", "0"))
_STORE = os.environ.get("KILL_STORE", "")


def _event(name: str) -> None:
    assert _LOG
    with open(_LOG, "a+") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        log.write(f"{name}\n")
        log.flush()
        log.seek(0)
        count = len(log.readlines())
    if count == _AT:
        # Workers are in sessions of their own, so the main process is killed by its number.
        parent = multiprocessing.parent_process()
        if parent is not None and parent.pid:
            os.kill(parent.pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def _wrap(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    def wrapped(path: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
        if str(path).startswith(_STORE):
            _event(f"{function.__name__} {os.path.relpath(str(path), _STORE)}")
        return function(path, *args, **kwargs)

    return wrapped


if _LOG:
    for _name in ("rename", "unlink", "rmdir", "mkdir"):
        setattr(os, _name, _wrap(getattr(os, _name)))
    try:
        import httpx
    except ImportError:
        pass
    else:
        _send = httpx.Client.send

        def _counted(self: t.Any, request: t.Any, **kwargs: t.Any) -> t.Any:
            _event(f"{request.method} {request.url.path}")
            return _send(self, request, **kwargs)

        httpx.Client.send = _counted  # type: ignore[method-assign]
    try:
        import requests
    except ImportError:
        pass
    else:
        _ask = requests.Session.send

        def _counted_change(self: t.Any, request: t.Any, **kwargs: t.Any) -> t.Any:
            if request.method in ("POST", "PUT", "DELETE"):
                _event(f"{request.method} {request.path_url}")
            return _ask(self, request, **kwargs)

        requests.Session.send = _counted_change  # type: ignore[method-assign]
