# SPDX-License-Identifier: GPL-3.0-or-later
"""`GET /organization/costs`: money by day, summed up by what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import fields
from .errors import ApiError

if TYPE_CHECKING:
    from .state import Cost

DAY = 86_400
GROUPS = ("project_id", "user_id", "line_item", "api_key_id", "api_source")


def _cursor(name: str, value: Any) -> int:
    number = str(value).removeprefix("page_")
    if not number.isdecimal() or int(number) % DAY:
        raise ApiError(400, f"Invalid '{name}': {value}", "invalid_value", name)
    return int(number)


def _results(costs: list[Cost], groups: list[str]) -> list[dict[str, Any]]:
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for cost in costs:
        # Currencies are never added up.
        key = (cost.currency, *(getattr(cost, group, None) for group in groups))
        if key not in sums:
            result: dict[str, Any] = {"object": "organization.costs.result"}
            result["amount"] = {"value": 0.0, "currency": cost.currency}
            for group in GROUPS:
                result[group] = getattr(cost, group, None) if group in groups else None
            if "api_source" in groups:
                result["api_source"] = "unlabeled"
            itemized = "line_item" in groups and cost.quantity is not None
            result["quantity"] = 0.0 if itemized else None
            result["quantity_unit"] = cost.quantity_unit if itemized else None
            sums[key] = result
        sums[key]["amount"]["value"] += cost.value
        if sums[key]["quantity"] is not None:
            sums[key]["quantity"] += cost.quantity or 0.0
    return list(sums.values())


def report(costs: list[Cost], now: int, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    asked = fields.query(
        pairs,
        {
            "start_time": fields.number(0),
            "end_time": fields.number(0),
            "bucket_width": fields.one_of("1d"),
            "limit": fields.number(1, 180),
            "page": _cursor,
        },
        {
            "group_by": fields.one_of(*GROUPS),
            "project_ids": fields.text,
            "api_key_ids": fields.text,
            "line_items": fields.text,
        },
        ("start_time",),
    )
    chosen = [
        cost
        for cost in costs
        if all(
            getattr(cost, attribute) in asked.get(parameter, (getattr(cost, attribute),))
            for attribute, parameter in (
                ("project_id", "project_ids"),
                ("api_key_id", "api_key_ids"),
                ("line_item", "line_items"),
            )
        )
    ]
    end = asked.get("end_time", now)
    day = asked.get("page", asked["start_time"] // DAY * DAY)
    buckets: list[dict[str, Any]] = []
    while day < end and len(buckets) < asked.get("limit", 7):
        today = [cost for cost in chosen if day <= cost.start_time < day + DAY]
        results = _results(today, asked.get("group_by", []))
        buckets.append({"object": "bucket", "start_time": day, "end_time": day + DAY, "results": results})
        day += DAY
    more = day < end
    return {"object": "page", "data": buckets, "has_more": more, "next_page": f"page_{day}" if more else None}
