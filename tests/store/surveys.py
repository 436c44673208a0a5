# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests ask of a store's surveys."""

from __future__ import annotations

import typing as t

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Document, Store


class Summary(t.NamedTuple):
    """How many documents there are, and when the first is due."""

    count: int
    earliest_due: int | None


def summary(store: Store, prefix: str) -> Summary:
    """Return what a survey tells before anything is due, without opening anything."""
    survey = store.survey(prefix, -1, tidy=False)
    assert list(survey.due) == []
    return Summary(survey.later, survey.next_due)


def due(store: Store, prefix: str, now: int) -> list[Document]:
    """Return what is due."""
    return list(store.survey(prefix, now, tidy=True).due)
