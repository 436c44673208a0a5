# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation as a user follows it: the blocks of a page in order, and a shell session in which they are done."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import textwrap
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: A page names the file that a block is the content of just before the block: `setup.yml`: or "A policy, `openai-creds.hcl`."
_FILE = re.compile(r"`([\w-]+\.(?:yml|hcl|cfg))`|^#+ (?:\d+\. )?(ansible\.cfg)$", re.MULTILINE)
_ENDS_IN = {"yaml": ".yml", "ini": ".cfg", "hcl": ".hcl"}


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block of a page. file is the name that the text before it gives it, if it does."""

    line: int
    language: str
    text: str
    file: str | None

    @property
    def first(self) -> str:
        """The first line, by which tables of the tests name a block."""
        return self.text.splitlines()[0].strip()


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found: list[Block] = []
    begun: tuple[int, str, str, list[str]] | None = None
    paragraph: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if begun is None:
            if opening := re.fullmatch(r"(\s*)```(\S*)", line):
                begun = number, opening[1], opening[2], []
            elif line.strip():
                paragraph.append(line)
            elif len(paragraph) > 1 or not "".join(paragraph).startswith("#"):
                # A heading belongs to the paragraph after it, and a paragraph to the block right after it.
                paragraph = paragraph if _next_is_block(page, number) else []
        elif line.strip() == "```":
            named = ["".join(name) for name in _FILE.findall("\n".join(paragraph))]
            fitting = [name for name in named if name.endswith(_ENDS_IN.get(begun[2], "\n"))]
            text = "\n".join(begun[3]) + "\n"
            found.append(Block(begun[0], begun[2], text, fitting[-1] if fitting else None))
            begun, paragraph = None, []
        else:
            begun[3].append(line.removeprefix(begun[1]))
    assert begun is None, f"{page.name}: the block in line {begun and begun[0]} has no end"
    return found


def _next_is_block(page: Path, number: int) -> bool:
    lines = page.read_text().splitlines()[number:]
    return bool(lines) and re.fullmatch(r"\s*```\S*", lines[0]) is not None


def playbook(text: str) -> str:
    """Return an example as a playbook: it is one, or tasks that a user would put into one."""
    if re.match(r"- (name: .*\n  )?(hosts|ansible\.builtin\.import_playbook):", text):
        return text
    return f"- hosts: localhost\n  gather_facts: false\n  tasks:\n{textwrap.indent(text, '    ')}"


class Session:
    """A user's shell: the folder and the exported variables stay from one command to the next."""

    def __init__(self, home: Path, env: t.Mapping[str, str], prefix: t.Sequence[str] = ()) -> None:
        self.home = self.cwd = home
        self.env = dict(env)
        self._prefix = prefix

    def run(self, commands: str, stdin: str = "", timeout: float = 180) -> tuple[int, str]:
        """Run commands as a user types them, up to the first that fails; returns its exit code and all that was printed."""
        keep = f"{self.home}/.session.json"
        # The trap also tells where a cd and an export have led.
        script = f"""
trap '{json_dump(keep)}' EXIT
set -e
{commands}
"""
        done = subprocess.run(
            (*self._prefix, "bash", "-o", "pipefail", "-c", script),
            cwd=self.cwd,
            env=self.env,
            # A session of its own, so that a question for a password is answered from standard input and not from a terminal.
            start_new_session=True,
            input=stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        state = json.loads(Path(keep).read_text())
        Path(keep).unlink()
        self.cwd = Path(state["cwd"])
        self.env = {name: value for name, value in state["env"].items() if name not in ("_", "SHLVL", "OLDPWD")}
        return done.returncode, done.stdout.decode(errors="replace")


def json_dump(path: str) -> str:
    """Return a shell command that writes the folder and the environment into a file."""
    code = 'import json,os,sys; json.dump({"cwd": os.getcwd(), "env": dict(os.environ)}, open(sys.argv[1], "w"))'
    return f'/usr/bin/env python3 -c "{code.replace(chr(34), chr(92) + chr(34))}" {path}'
