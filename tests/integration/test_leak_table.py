# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of docs/lookup.md: every way in which a key was seen to reach output, and the form that keeps it out.

Each row is tried in both forms, each on a host and with a role of its own, so that a key which is found tells where it came from.
"""

from __future__ import annotations

import base64
import dataclasses
import re
import sys
import typing as t
from pathlib import Path

import pytest
from lab import Lab

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "lookup.md"
Tasks = list[dict[str, t.Any]]

KEY = "{{ creds.api_key }}"
LEASE = "{{ creds.lease_id }}"
TARGET = "{{ delivered }}/{{ inventory_hostname }}"
NO_LOG = {"no_log": True}
#: What column two of the table says, and from which verbosity on output has the key then; None: at none.
SHOWS: dict[str, int | None] = {"always": 0, "from `-v`": 1, "from `-vvv`": 3, "in a file": None, "no": None}
#: In newer releases of ansible-core it does not.
SOMETIMES = "from `-vvv`, in some releases"


@dataclasses.dataclass(frozen=True)
class Row:
    """One row: columns one and two of the table, tasks that show a key as column two says, and the form that never does."""

    where: str
    shows: str
    unsafe: Tasks
    safe: Tasks


def debug(message: str, **more: t.Any) -> dict[str, t.Any]:
    return {"ansible.builtin.debug": {"msg": message}, **more}


def run(module: str, more: dict[str, t.Any] | None = None, /, **args: t.Any) -> dict[str, t.Any]:
    return {f"ansible.builtin.{module}": args, **(more or {})}


ISSUE: dict[str, t.Any] = {"ephemeral.openai.openai_creds": {"name": "{{ inventory_hostname }}"}, "register": "issued"}
ISSUE_TWICE = {**ISSUE, "loop": [1, 2], "register": "many"}
DELIVER = run("copy", NO_LOG, content=KEY, dest=TARGET, mode="0600")
LOOP = {"loop": "{{ many.results }}"}
LABEL = {"loop_control": {"label": "{{ item.creds.lease_id }}"}}
LOOP_OVER_IDS = {"loop": "{{ many.results | map(attribute='creds.lease_id') }}"}
RETRIED = {"register": "r", "until": "r is success", "retries": 1, "delay": 0}
INNER = {"file": "{{ files }}/inner.yml"}

ROWS = [
    Row("the module `openai_creds`, also in a loop", "no", [], [ISSUE, ISSUE_TWICE]),
    Row("`debug` of a credential", "always", [debug("{{ creds }}")], [debug(LEASE)]),
    Row(
        "`debug` of a registered result",
        "always",
        [ISSUE, {"ansible.builtin.debug": {"var": "issued"}}],
        [ISSUE, {"ansible.builtin.debug": {"var": "issued.creds.lease_id"}}],
    ),
    Row(
        "`debug` of `hostvars`",
        "always",
        [ISSUE, {"ansible.builtin.debug": {"var": "hostvars[inventory_hostname]"}}],
        [ISSUE, debug("{{ hostvars[inventory_hostname].issued.creds.lease_id }}")],
    ),
    Row(
        "`set_fact`, also with `delegate_facts`",
        "from `-v`",
        [run("set_fact", k=KEY)],
        [run("set_fact", NO_LOG, k=KEY)],
    ),
    Row(
        "`set_stats`",
        "from `-v`",
        [run("set_stats", data={"k": KEY})],
        [run("set_stats", data={"k": LEASE})],
    ),
    Row(
        "`add_host`, `group_by`",
        "from `-v`",
        [run("add_host", name="new", k=KEY)],
        [run("add_host", NO_LOG, name="new", k=KEY)],
    ),
    Row(
        "`include_vars` of a file with a key",
        "from `-v`",
        [run("copy", NO_LOG, content="k: " + KEY, dest=TARGET), run("include_vars", file=TARGET)],
        [run("copy", NO_LOG, content="k: " + KEY, dest=TARGET), run("include_vars", NO_LOG, file=TARGET)],
    ),
    Row(
        "a loop over credentials",
        "always",
        [ISSUE_TWICE, debug("x", **LOOP)],
        [ISSUE_TWICE, debug("x", **LOOP, **NO_LOG)],
    ),
    Row(
        "a loop over credentials that is skipped",
        "always",
        [ISSUE_TWICE, debug("x", when=False, **LOOP)],
        [ISSUE_TWICE, debug("{{ item }}", when=False, **LOOP_OVER_IDS)],
    ),
    Row(
        "a loop over credentials with a `label`",
        "from `-v`",
        [ISSUE_TWICE, run("command", {**LOOP, **LABEL}, cmd="true")],
        [ISSUE_TWICE, run("command", LOOP_OVER_IDS, cmd="true")],
    ),
    Row(
        "`include_tasks` or `include_role` in a loop over credentials",
        "always",
        [ISSUE_TWICE, run("include_tasks", LOOP, file="{{ files }}/quiet.yml")],
        [ISSUE_TWICE, run("include_tasks", LOOP_OVER_IDS, file="{{ files }}/quiet.yml")],
    ),
    Row(
        "tasks below `include_tasks` or `include_role` with `no_log: true`",
        "always",
        [run("include_tasks", {**NO_LOG, "vars": {"k": KEY}}, **INNER)],
        [run("include_tasks", {"vars": {"k": KEY}}, **INNER, apply=NO_LOG)],
    ),
    Row(
        "a `label`",
        "always",
        [debug("x", loop=[1], loop_control={"label": KEY})],
        [debug("x", loop=[1], loop_control={"label": LEASE})],
    ),
    Row(
        "the name of a task, play or handler, even with `no_log: true`",
        "always",
        [debug("x", name="A " + KEY, **NO_LOG)],
        [debug("x", name="A " + LEASE)],
    ),
    Row(
        "the message of a task that fails (`fail`, `assert`), even with `no_log: true`",
        "always",
        [run("fail", NO_LOG, msg=KEY)],
        [run("fail", msg=LEASE), run("assert", that="creds.api_key == 'x'")],
    ),
    Row(
        "an argument of the wrong type, even with `no_log: true`",
        "always",
        [run("wait_for", NO_LOG, port=KEY)],
        [run("wait_for", port=1, timeout="{{ 0 if creds.api_key else 1 }}")],
    ),
    Row(
        "a filter or lookup that fails, even with `no_log: true`",
        "always",
        [debug("{{ creds.api_key | to_datetime }}", **NO_LOG)],
        [debug("{{ creds.api_key | from_json }}", **NO_LOG)],
    ),
    Row(
        "`no_log` that is a template and false",
        "always",
        [debug(KEY, no_log="{{ hide | default(false) }}")],
        [debug(KEY, **NO_LOG)],
    ),
    Row(
        "`template` lookup, `debug` of text with a key",
        "always",
        [debug("{{ lookup('ansible.builtin.template', files ~ '/t.j2') }}")],
        [run("template", NO_LOG, src="{{ files }}/t.j2", dest=TARGET, mode="0600")],
    ),
    Row(
        "`copy`, `template`, `blockinfile` with `--diff`",
        "always",
        [run("copy", {"diff": True}, content=KEY, dest=TARGET, mode="0600")],
        [run("copy", {"diff": True, **NO_LOG}, content=KEY, dest=TARGET, mode="0600")],
    ),
    Row(
        "reading a file with a key (`slurp`, `command: cat`)",
        "from `-v`",
        [DELIVER, run("slurp", src=TARGET)],
        [DELIVER, run("slurp", NO_LOG, src=TARGET)],
    ),
    Row(
        "an argument of `command` or `shell`",
        "from `-v`",
        [run("command", argv=["true", KEY])],
        [run("command", NO_LOG, argv=["true", KEY])],
    ),
    Row(
        "an argument of `command` that fails",
        "always",
        [run("command", argv=["false", KEY])],
        [run("command", NO_LOG, argv=["false", KEY])],
    ),
    Row(
        "`until` and `retries`",
        "always",
        [run("command", RETRIED, argv=["false", KEY])],
        [run("command", {**RETRIED, **NO_LOG}, argv=["false", KEY])],
    ),
    Row(
        "a URL with a key",
        "always",
        [run("uri", url="{{ api }}/nowhere?key=" + KEY)],
        [run("uri", NO_LOG, url="{{ api }}/nowhere?key=" + KEY)],
    ),
    Row(
        "`uri` with a key in `headers` or `body`",
        SOMETIMES,
        [run("uri", url="{{ api }}/models", headers={"Authorization": "Bearer " + KEY})],
        [run("uri", NO_LOG, url="{{ api }}/models", headers={"Authorization": "Bearer " + KEY})],
    ),
    Row(
        "standard input of `command`",
        SOMETIMES,
        [run("command", cmd="true", stdin=KEY)],
        [run("command", NO_LOG, cmd="true", stdin=KEY)],
    ),
    Row(
        "`environment:` of a task, even with `no_log: true`",
        "from `-vvv`",
        [run("command", {"environment": {"OPENAI_API_KEY": KEY}, **NO_LOG}, cmd="true")],
        [run("command", NO_LOG, cmd="sh -c 'read -r OPENAI_API_KEY; export OPENAI_API_KEY; true'", stdin=KEY)],
    ),
    Row(
        "`environment:` of a play that gathers facts: `ansible_env` in the fact cache",
        "in a file",
        [run("setup", {"environment": {"OPENAI_API_KEY": KEY}, **NO_LOG}, gather_subset=["!all"])],
        [debug(LEASE), run("setup", gather_subset=["!all"])],
    ),
    Row(
        "a fact cache (`jsonfile`, `redis`, …): `set_fact` with `cacheable: true`",
        "in a file",
        [run("set_fact", NO_LOG, k=KEY, cacheable=True)],
        [run("set_fact", NO_LOG, k=KEY)],
    ),
    Row(
        "`async`: the job's file in `~/.ansible_async` of the managed host, even with `no_log: true`",
        "in a file",
        [run("command", {"async": 60, "poll": 1, **NO_LOG}, argv=["true", KEY])],
        [run("command", NO_LOG, argv=["true", KEY])],
    ),
]


def table() -> dict[str, str]:
    """Return columns one and two of the guide's table."""
    text = GUIDE.read_text().split("## Keeping keys out of output")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", text, re.MULTILINE)
    return {where: shows for where, shows in rows if where != "where"}


def test_the_guide_has_the_rows_that_are_tried() -> None:
    said = table()
    assert {row.where: row.shows for row in ROWS} == {
        where: shows for where, shows in said.items() if where not in ELSEWHERE
    }
    assert set(ELSEWHERE) <= set(said)


#: Rows that are tried in other tests.
ELSEWHERE = {
    "the syslog or journal of the managed host": "test_what_the_journal_of_the_host_gets",
    "`ANSIBLE_DEBUG`, even with `no_log: true`": "test_debugging_ansible_shows_what_it_does",
    "stdout callbacks `minimal` and `oneline`, callbacks that store results such as `junit`, `tree` and AWX's": "test_other_callbacks",
    "`ANSIBLE_DISPLAY_ARGS_TO_STDOUT`": "test_other_callbacks",
}


@dataclasses.dataclass
class Seen:
    """Which hosts' keys were found in output and in files, and what was printed."""

    output: set[str]
    files: set[str]
    text: str


def look(lab: Lab, temporary: Path, hosts: dict[str, Tasks], *args: str, env: dict[str, str] | None = None) -> Seen:
    """Run a play for each host and return whose keys show."""
    files, delivered = lab.path / "files", temporary / "delivered"
    for folder in (files, delivered):
        folder.mkdir()
    (files / "t.j2").write_text("KEY={{ creds.api_key }}\n")
    (files / "inner.yml").write_text("- ansible.builtin.debug:\n    msg: '{{ k }}'\n")
    (files / "quiet.yml").write_text("- ansible.builtin.debug:\n    msg: x\n")
    lab.configure()
    for host in hosts:
        lab.role(host)
    variables = {
        "creds": "{{ lookup('ephemeral.openai.openai_creds', inventory_hostname) }}",
        "api": lab.double.url,
        "files": str(files),
        "delivered": str(delivered),
    }
    plays = [
        {"hosts": host, "gather_facts": False, "ignore_errors": True, "vars": variables, "tasks": tasks}
        for host, tasks in hosts.items()
    ]
    written = {
        name: value
        for name, value in lab.everything_written(temporary).items()
        if name not in ("ANSIBLE_CALLBACKS_ENABLED", "ANSIBLE_KEEP_REMOTE_FILES")
    }
    # Nobody has to look for an interpreter on each of the many hosts.
    written["ANSIBLE_PYTHON_INTERPRETER"] = sys.executable
    inventory = ",".join(hosts) + ","
    done = lab.play(plays, "-i", inventory, "-c", "local", *args, env={**written, **(env or {})}, timeout=900)
    # Each of them got so far that it has keys.
    state = lab.double.state()
    names = {account["id"]: account["name"] for account in state["service_accounts"]}
    keys = {key["value"]: names[key["service_account_id"]].split("-")[1] for key in state["api_keys"]}
    assert set(keys.values()) == set(hosts), _without(done.out, keys)
    # Long lines are broken. What is printed goes into the log as well, and nothing else does.
    printed = re.sub(r"\s", "", done.out)
    logged = re.sub(r"\s", "", (lab.path / "ansible.log").read_text())
    content = {
        path: path.read_bytes()
        for path in (*lab.path.rglob("*"), *temporary.rglob("*"))
        if path.is_file() and path.name != "ansible.log" and delivered not in path.parents
    }
    output = {host for key, host in keys.items() if any(form in printed for form in _forms(key))}
    assert {host for key, host in keys.items() if any(form in logged for form in _forms(key))} <= output
    files_ = {host for key, host in keys.items() if any(key.encode() in data for data in content.values())}
    return Seen(output, files_, _without(done.out, keys))


def _forms(key: str) -> tuple[str, str]:
    return key, base64.b64encode(key.encode()).decode().rstrip("=")[:-2]


def _without(text: str, keys: t.Iterable[str]) -> str:
    for key in keys:
        text = text.replace(key, "<a key>")
    return text


def _names(form: str) -> dict[str, Row]:
    return {f"{form}{number:02}": row for number, row in enumerate(ROWS) if getattr(row, form)}


@pytest.mark.long
@pytest.mark.parametrize("verbosity", [0, 1, 3])
def test_each_row_shows_what_the_guide_says(lab: Lab, temporary: Path, verbosity: int) -> None:
    unsafe, safe = _names("unsafe"), _names("safe")
    # The safe forms where most is printed.
    hosts = {host: row.unsafe for host, row in unsafe.items()}
    if verbosity == 3:
        hosts |= {host: row.safe for host, row in safe.items()}
    seen = look(lab, temporary, hosts, *(["-" + "v" * verbosity] if verbosity else []))

    def shown(row: Row) -> bool:
        level = SHOWS.get(row.shows)
        return level is not None and verbosity >= level

    expected = {row.where for row in unsafe.values() if shown(row)}
    found = {unsafe[host].where for host in seen.output & set(unsafe)}
    if verbosity == 3:
        found -= {row.where for row in ROWS if row.shows == SOMETIMES}
        # What environment shows here, it shows in the row for a task.
        found -= {row.where for row in ROWS if "fact cache" in row.where and row.where.startswith("`environment:`")}
    assert found == expected
    assert {safe[host].where for host in seen.output & set(safe)} == set()
    assert {safe[host].where for host in seen.files & set(safe)} == set()
    assert {unsafe[host].where for host in seen.files & set(unsafe)} == {
        row.where for row in unsafe.values() if row.shows == "in a file"
    }


def _forms_of(shows: str) -> dict[str, Tasks]:
    """Return rows whose unsafe form shows its key as told, and their safe forms."""
    rows = {number: row for number, row in enumerate(ROWS) if row.shows == shows}
    return {
        **{f"unsafe{number:02}": row.unsafe for number, row in rows.items()},
        **{f"safe{number:02}": row.safe for number, row in rows.items()},
    }


@pytest.mark.long
@pytest.mark.parametrize(
    "env",
    [
        {"ANSIBLE_STDOUT_CALLBACK": "minimal"},
        {"ANSIBLE_STDOUT_CALLBACK": "oneline"},
        {"ANSIBLE_CALLBACKS_ENABLED": "tree", "ANSIBLE_CALLBACK_TREE_DIR": "{lab}/results"},
        {"ANSIBLE_CALLBACKS_ENABLED": "junit", "JUNIT_OUTPUT_DIR": "{lab}/results"},
        {"ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "true"},
    ],
    ids=lambda env: env.get("ANSIBLE_CALLBACKS_ENABLED") or next(iter(env.values())),
)
def test_other_callbacks(lab: Lab, temporary: Path, env: dict[str, str]) -> None:
    """They show at any verbosity what the usual one shows at -v, and the safe form keeps a key out of them, too."""
    seen = look(
        lab,
        temporary,
        _forms_of("from `-v`"),
        env={name: value.format(lab=lab.path) for name, value in env.items()},
    )
    shown = seen.output | seen.files
    assert not {host for host in shown if host.startswith("safe")}
    as_usual = "ANSIBLE_DISPLAY_ARGS_TO_STDOUT" in env
    assert bool(shown) is not as_usual, seen.text


def test_what_the_journal_of_the_host_gets(lab: Lab, temporary: Path) -> None:
    """Modules tell the journal their arguments. This one is a file, in the place of the package by which they reach the real one."""
    package, journal = lab.path / "packages" / "systemd", lab.path / "journal.txt"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "daemon.py").write_text("def booted():\n    return True\n")
    (package / "journal.py").write_text(
        f"def send(**fields):\n    open({str(journal)!r}, 'a').write(repr(fields))\ndef sendv(*fields):\n    pass\n"
    )
    unsafe = run("command", argv=["true", KEY])
    seen = look(
        lab, temporary, {"unsafe": [unsafe], "safe": [{**unsafe, **NO_LOG}]}, env={"PYTHONPATH": str(package.parent)}
    )
    assert seen.files == {"unsafe"}, seen.text


def test_debugging_ansible_shows_what_it_does(lab: Lab, temporary: Path) -> None:
    seen = look(lab, temporary, {"unsafe": [run("command", NO_LOG, argv=["true", KEY])]}, env={"ANSIBLE_DEBUG": "1"})
    assert seen.output == {"unsafe"}
