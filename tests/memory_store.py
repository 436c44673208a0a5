# SPDX-License-Identifier: GPL-3.0-or-later
"""A store in memory, for tests that write very often."""

from __future__ import annotations

import json
import threading
import typing as t

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import Conflict
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.names import random_text
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import (
    Document,
    Found,
    Store,
    Survey,
    Write,
)


class MemoryStore(Store):
    """It has what has been written through any store with the same documents: their JSON, version and due time by path."""

    batch = 16

    def __init__(self, documents: dict[str, tuple[str, int, int]]) -> None:
        self.documents = documents
        self.place = "memory"
        self._lock = threading.Lock()

    def read(self, path: str) -> Document | None:
        stored = self.documents.get(path)
        return Document(path, json.loads(stored[0]), stored[1]) if stored else None

    def write(self, *writes: Write) -> None:
        for write in writes:
            data = json.dumps(write.data)
            with self._lock:
                if self.documents.get(write.path, ("", 0, 0))[1] != write.version:
                    raise Conflict(f"store: {write.path} has another version")
                self.documents[write.path] = (data, write.version + 1, write.due)

    def delete(self, *paths: str) -> None:
        for path in paths:
            self.documents.pop(path, None)

    def scan(self, prefix: str) -> t.Iterator[Found]:
        for path in [path for path in list(self.documents) if path.startswith(prefix)]:
            if document := self.read(path):
                yield document

    def survey(self, prefix: str, now: int, *, tidy: bool) -> Survey:
        survey = Survey()
        paths = {path: due for path, (_data, _version, due) in self.documents.items() if path.startswith(prefix)}
        found = [(document, due) for path, due in paths.items() if (document := self.read(path))]
        # Counted by now, as the others do.
        survey.due = iter(list(survey.sort(found, now)))
        return survey

    def new_key(self, folder: str, due: int) -> str:
        return random_text(12)
