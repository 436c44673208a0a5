# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What OpenAI says was spent, by project and by key."""

from __future__ import annotations

import typing as t

from ..definitions.projects import project_names
from ..mount import Mount

_DAY = 86400


class Spent(t.NamedTuple):
    """Sums by project, which has its name in the mount or else its id, and by the id of the key; problem says why they are not all:
    amounts of several currencies cannot be added up."""

    by_project: dict[str, float]
    by_key: dict[str, float]
    problem: str | None


def spent(mount: Mount, window: int) -> Spent:
    """Return what was spent in the last days, today included.

    OpenAI counts by days of UTC, so a window that is not of whole days begins with its first day.
    """
    now = mount.now()
    days = -(-window // _DAY)
    start = (now // _DAY - days + 1) * _DAY
    costs = mount.openai().costs(start)
    currencies = {cost.currency for cost in costs}
    currency = "usd" if "usd" in currencies else min(currencies, default="usd")
    names = project_names(mount)
    by_project = dict.fromkeys(names.values(), 0.0)
    by_key: dict[str, float] = {}
    for cost in costs:
        if cost.currency != currency:
            continue
        project = names.get(cost.project_id or "", cost.project_id or "")
        by_project[project] = by_project.get(project, 0.0) + cost.amount
        if cost.api_key_id:
            by_key[cost.api_key_id] = by_key.get(cost.api_key_id, 0.0) + cost.amount
    others = ", ".join(sorted(currencies - {currency}))
    problem = f"costs: OpenAI also reports costs in {others}; only those in {currency} are counted" if others else None
    return Spent(by_project, by_key, problem)
