# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several calls at once."""

from __future__ import annotations

import concurrent.futures
import typing as t

_T = t.TypeVar("_T")
_R = t.TypeVar("_R")


def concurrently(function: t.Callable[[_T], _R], items: t.Sequence[_T], limit: int) -> t.Iterator[_R]:
    """Yield what function returns for each item as soon as it does, at most limit at a time.

    With a limit of 1 no thread is started. While the interpreter ends none can be, and it is done one by one.
    """
    if limit == 1 or len(items) < 2:
        yield from map(function, items)
        return
    with concurrent.futures.ThreadPoolExecutor(min(limit, len(items))) as pool:
        try:
            futures = [pool.submit(function, item) for item in items]
        except RuntimeError:
            yield from map(function, items)
            return
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
