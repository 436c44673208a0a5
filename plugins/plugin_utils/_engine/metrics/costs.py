# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What OpenAI says was spent, by project."""

from __future__ import annotations

from ..definitions.projects import project_names
from ..mount import Mount

_DAY = 86400


def spent_by_project(mount: Mount, window: int) -> tuple[dict[str, float], str | None]:
    """Return what was spent in the last days, today included, by project: its name in the mount, or else its id.

    OpenAI counts by days of UTC, so a window that is not of whole days begins with its first day. Also returns why the sums are
    not all: amounts of several currencies cannot be added up.
    """
    now = mount.now()
    days = -(-window // _DAY)
    start = (now // _DAY - days + 1) * _DAY
    sums: dict[str, dict[str, float]] = {}
    for cost in mount.openai().costs_by_project(start):
        of_currency = sums.setdefault(cost.currency, {})
        of_currency[cost.project_id or ""] = of_currency.get(cost.project_id or "", 0.0) + cost.amount
    currency = "usd" if "usd" in sums else min(sums, default="usd")
    names = project_names(mount)
    spent = dict.fromkeys(names.values(), 0.0)
    for project_id, amount in sums.get(currency, {}).items():
        spent[names.get(project_id, project_id)] = amount
    others = ", ".join(sorted(set(sums) - {currency}))
    problem = f"costs: OpenAI also reports costs in {others}; only those in {currency} are counted" if others else None
    return spent, problem
