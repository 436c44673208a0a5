# SPDX-License-Identifier: GPL-3.0-or-later
"""What OpenAI has of an account whose keys are issued, and of which somebody else has made one."""

from __future__ import annotations

import time
import typing as t

from lab import Lab

Data = dict[str, t.Any]


def keys(lab: Lab, account: Data) -> dict[str, str]:
    """Return the keys of the account that work, but for the one that somebody else has made: id to name."""
    state = lab.double.state()
    now = (state["frozen_at"] or time.time()) + state["clock_offset"]
    return {
        key["id"]: key["name"]
        for key in state["api_keys"]
        if key["service_account_id"] == account["id"]
        and key["name"] != "Secret Key"
        and (key["expires_at"] is None or key["expires_at"] > now)
    }


def untouched(lab: Lab, account: Data) -> bool:
    """Say whether the account and the key that somebody else has made are as they were."""
    state = lab.double.state()
    foreign = [key for key in state["api_keys"] if key["name"] == "Secret Key"]
    return "workload" in lab.accounts() and len(foreign) == 1 and foreign[0]["expires_at"] is None
