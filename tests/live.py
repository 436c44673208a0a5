# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job's checks against the real OpenAI: tests/live.yml, and that nothing else was touched and nothing is left."""

from __future__ import annotations

import os
import secrets
import sys

import httpx
from control_node import CHECKOUT, control_node

_NEEDED = ("OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_TEST_PROJECT_ID")


def _service_accounts() -> dict[str, str]:
    """Return the ids and names of the project's service accounts, asked for by other means than the collection's."""
    base = os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    url = f"{base.rstrip('/')}/organization/projects/{os.environ['OPENAI_TEST_PROJECT_ID']}/service_accounts"
    headers = {
        "Authorization": f"Bearer {os.environ['OPENAI_ADMIN_KEY']}",
        "OpenAI-Organization": os.environ["OPENAI_ORG_ID"],
    }
    found: dict[str, str] = {}
    query = {"limit": "100"}
    with httpx.Client(headers=headers, timeout=60) as client:
        while True:
            page = client.get(url, params=query).raise_for_status().json()
            found.update((account["id"], account["name"]) for account in page["data"])
            if not page["has_more"]:
                return found
            query["after"] = page["last_id"]


def main() -> int:
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if missing:
        print(f"Nothing was done. make live needs {', '.join(_NEEDED)}; missing: {', '.join(missing)}.")
        return 0
    name = f"live-{secrets.token_hex(4)}"
    before = _service_accounts()
    with control_node() as node:
        wanted = (*_NEEDED, "OPENAI_BASE_URL")
        node.env.update({variable: os.environ[variable] for variable in wanted if os.environ.get(variable)})
        code: int | None = None
        try:
            project = os.environ["OPENAI_TEST_PROJECT_ID"]
            variables = ("-e", f"live_project_id={project}", "-e", f"live_name={name}")
            code = node.play(CHECKOUT / "tests" / "live.yml", *variables)
        finally:
            if code != 0:
                node.put_away("live")
    after = _service_accounts()
    left = sorted(account for account in after.values() if account.startswith(name))
    gone = sorted(before[account_id] for account_id in before.keys() - after.keys())
    if left:
        print(f"FAILED: left at OpenAI: {', '.join(left)}")
    if gone:
        print(f"FAILED: gone from OpenAI, unless somebody else has deleted them: {', '.join(gone)}")
    failed = code != 0 or bool(left) or bool(gone)
    print(
        "live: FAILED" if failed else f"live: all checks passed; {len(before)} other service accounts are as they were"
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
