# SPDX-License-Identifier: GPL-3.0-or-later
"""What the harness tries: all that is made, changed or ended at OpenAI. A new kind of credential is registered here."""

from __future__ import annotations

from unit.crashes import (
    account_key_scenarios,
    admin_key_scenarios,
    lease_scenarios,
    library_scenarios,
    move_scenarios,
    static_role_scenarios,
)

SCENARIOS = {
    scenario.name: scenario
    for subject in (
        lease_scenarios,
        account_key_scenarios,
        static_role_scenarios,
        library_scenarios,
        admin_key_scenarios,
        move_scenarios,
    )
    for scenario in subject.SCENARIOS
}
