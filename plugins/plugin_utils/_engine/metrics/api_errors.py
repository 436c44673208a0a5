# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls to OpenAI that failed, counted by endpoint and code.

    api_errors/<shard>    how many, of a part of all processes

A process adds its own when its task is over, if there are any: a task without errors writes nothing.
"""

from __future__ import annotations

import collections
import random
from functools import partial

from ..errors import ApiFailure, OpenAICredsError
from ..mount import Mount
from ..store.base import Data, Document, converted
from ..store.changing import change_document

API_ERRORS = "api_errors/"
#: Where OpenAI fails, it does so for many at a time.
_SHARDS = 16


def record_api_errors(mount: Mount) -> None:
    """Add the failed calls of this process to the count. The task is over, so an error is only logged."""
    failures = collections.Counter(mount.take_api_errors())
    if not failures:
        return
    try:
        # The mount may have been moved away meanwhile.
        mount.check_is_here()
        _add(mount, failures)
    except OpenAICredsError as error:
        mount.log(f"{failures.total()} failed call(s) to OpenAI were not counted: {error}")


def read_api_errors(mount: Mount) -> collections.Counter[ApiFailure]:
    """Return how many calls to OpenAI have failed."""
    total: collections.Counter[ApiFailure] = collections.Counter()
    for one in converted(mount.store.read_each([_path(shard) for shard in range(_SHARDS)]), _read):
        total += one.value
    return total


def _add(mount: Mount, failures: collections.Counter[ApiFailure]) -> None:
    path = _path(random.randrange(_SHARDS))

    def change(document: Document | None) -> Data:
        total = failures + (_read(document.data) if document else collections.Counter())
        return {"counts": [[*failure, count] for failure, count in sorted(total.items())]}

    change_document(mount.store, path, change, partial(mount.store.read, path), f"mount {mount.name}: its counts")


def _path(shard: int) -> str:
    return f"{API_ERRORS}{shard:x}"


def _read(data: Data) -> collections.Counter[ApiFailure]:
    return collections.Counter({ApiFailure(endpoint, code): count for endpoint, code, count in data["counts"]})
