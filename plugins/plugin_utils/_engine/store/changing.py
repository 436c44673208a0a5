# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Change a document that many write: again on top of what others have written, as long as others are faster."""

from __future__ import annotations

import random
import time
import typing as t

from ..errors import Conflict
from .base import Data, Document, Store, Write

#: How many conflicts in a row are believed without seeing that somebody else has changed anything.
_UNEXPLAINED = 50
_LONGEST_WAIT = 0.5


def change_document(
    store: Store,
    path: str,
    change: t.Callable[[Document | None], Data | None],
    read: t.Callable[[], Document | None],
    subject: str,
) -> bool:
    """Change a document; returns whether there was anything to change.

    read returns it as it is, and change what it is to hold, or None if it stays as it is; both are called for each try. subject
    says for users what cannot be changed if the store refuses the write though nobody else writes.
    """
    known, attempts, unexplained = -1, 0, 0
    while unexplained < _UNEXPLAINED:
        document = read()
        data = change(document)
        if data is None:
            return False
        version = document.version if document else 0
        try:
            store.write(Write(path, data, version))
        except Conflict:
            # Somebody else was faster, so all of them together get on, however many there are.
            attempts, unexplained = attempts + 1, 0 if version != known else unexplained + 1
            known = version
            time.sleep(random.uniform(0.0, min(_LONGEST_WAIT, 0.01 * attempts)))
            continue
        return True
    raise Conflict(f"{subject} cannot be changed, though nobody else changes them; try again")
