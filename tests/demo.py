# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the main job end to end, told as it goes: playbooks/demo.yml, in a real ansible-playbook process.

Against the test double, or against the real OpenAI where the user says so.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

from control_node import CHECKOUT, control_node
from double.client import Double

_HOW = """\
This ran against a test double of OpenAI's Admin API, on this machine. Against the real OpenAI (one service account
is made in the project, and deleted again):

    export OPENAI_ADMIN_KEY=...  OPENAI_ORG_ID=org-...  OPENAI_TEST_PROJECT_ID=proj_...
    make demo REAL=1
"""
_NEEDED = ("OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_TEST_PROJECT_ID")
_PROJECT = "proj_demo"
_NO = ("", "0", "no", "false")


def main() -> int:
    real = os.environ.get("REAL", "").lower() not in _NO
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if real and missing:
        print(f"REAL=1 needs {', '.join(missing)} in the environment; nothing was done.", file=sys.stderr)
        return 2
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(control_node())
        if real:
            project = os.environ["OPENAI_TEST_PROJECT_ID"]
            wanted = (*_NEEDED, "OPENAI_BASE_URL")
            node.env.update({name: os.environ[name] for name in wanted if os.environ.get(name)})
        else:
            project = _PROJECT
            double = stack.enter_context(Double(projects=[project]))
            node.env.update(
                OPENAI_ADMIN_KEY=double.admin_key, OPENAI_ORG_ID=double.organization, OPENAI_BASE_URL=double.url
            )
        code: int | None = None
        try:
            code = node.play(CHECKOUT / "playbooks" / "demo.yml", "-e", f"openai_creds_demo_project_id={project}")
        finally:
            if code != 0 and not node.put_away("openai-demo"):
                print("Something may be left at OpenAI; its key ends ten minutes after it was made.", file=sys.stderr)
    outcome = "went well" if code == 0 else f"FAILED (exit code {code})"
    print(f"The demo {outcome}, in {time.monotonic() - begun:.0f} s.\n")
    print("This ran against the real OpenAI." if real else _HOW)
    return code


if __name__ == "__main__":
    sys.exit(main())
