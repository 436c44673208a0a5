# SPDX-License-Identifier: GPL-3.0-or-later
"""The role deliver: a valid credential on each host, whatever becomes of the host, the file, the lease or the run.

The hosts are folders of this machine. One that gets lost is reached by an ssh that is a script. The judge is the double: which accounts it
has, and whether it accepts the key in a file.
"""

from __future__ import annotations

import base64
import grp
import hashlib
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from lab import MARKER, Lab, Run

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import (
    Record,
    find_record,
    records,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew

HANDLER = {"name": "Listen", "ansible.builtin.debug": {"msg": "HEARD"}, "listen": "openai credential changed"}
#: With a lease of an hour this makes it due from its second second on.
SOON = {"renew_before": "3599"}
CLOSED = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_timeout": 5}


class Hosts:
    """Hosts that are to have a credential of my-role, each in a folder of its name."""

    def __init__(self, lab: Lab, **hosts: dict[str, t.Any]) -> None:
        self.lab = lab
        self.hosts = {name: {"ansible_connection": "local", **variables} for name, variables in hosts.items()}

    def path(self, host: str = "one") -> Path:
        return self.lab.path / "hosts" / host / "credentials.env"

    def note(self, host: str = "one") -> Path:
        return self.path(host).with_name("credentials.env.lease")

    def playbook(self, play: dict[str, t.Any] | None = None, **variables: t.Any) -> list[dict[str, t.Any]]:
        given = {
            "ansible_python_interpreter": sys.executable,
            "openai_creds_deliver_role": "my-role",
            "openai_creds_deliver_path": f"{self.lab.path}/hosts/{{{{ inventory_hostname }}}}/credentials.env",
            **{f"openai_creds_deliver_{name}": value for name, value in variables.items()},
        }
        roles = ["ephemeral.openai.deliver"]
        base = {"hosts": "all", "gather_facts": False, "vars": given, "roles": roles, "handlers": [HANDLER]}
        return [{**base, **(play or {})}]

    def inventory(self) -> str:
        path = self.lab.path / "inventory.json"
        path.write_text(json.dumps({"all": {"hosts": self.hosts}}))
        return str(path)

    def deliver(self, *args: str, play: dict[str, t.Any] | None = None, rc: int = 0, **variables: t.Any) -> Run:
        """Run the role, with variables without their prefix."""
        run = self.lab.play(self.playbook(play, **variables), "-i", self.inventory(), *args)
        assert run.rc == rc, run.out
        assert (MARKER in run.out) is False, "a key is printed"
        return run

    def have(self) -> None:
        """Give each host what a first run with the defaults leaves on it, in a hundredth of its time."""
        for host, variables in self.hosts.items():
            creds = issue(self.lab.mount(), variables.get("issued_from", "my-role"))
            self.path(host).parent.mkdir(parents=True, exist_ok=True)
            self.path(host).touch(mode=0o600)
            self.path(host).write_text(f"OPENAI_API_KEY={creds['api_key']}\n")
            self.note(host).touch(mode=0o600)
            self.note(host).write_text(self.first_note(host, creds["lease_id"]))

    def first_note(self, host: str, lease_id: str) -> str:
        noted = {
            "format": "env",
            "host": host,
            "lease_duration": 3600,
            "lease_id": lease_id,
            "path": str(self.path(host)),
            "pending": False,
            "replaced": [],
            "sha256": hashlib.sha256(self.path(host).read_bytes()).hexdigest(),
            "variable": "OPENAI_API_KEY",
        }
        line = json.dumps(noted, sort_keys=True)
        return f"{line}\n{hashlib.sha256(line.encode()).hexdigest()}\n"

    def key(self, host: str = "one", variable: str = "OPENAI_API_KEY") -> str:
        """Return the key that an environment file holds."""
        found = re.fullmatch(rf"{variable}=(sk-\S+)\n", self.path(host).read_text())
        assert found, "not an environment file"
        return found[1]

    def opens(self, key: str) -> bool:
        """Say whether the double accepts a key."""
        request = urllib.request.Request(f"{self.lab.double.url}/models", headers={"Authorization": f"Bearer {key}"})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
                return True
        except urllib.error.HTTPError as error:
            assert error.code == 401
            return False

    def is_well(self, host: str = "one") -> bool:
        """Say whether a host has what it is to have: a valid key that only its owner can read."""
        return self.opens(self.key(host)) and self.path(host).stat().st_mode & 0o7777 == 0o600


def changed(run: Run, host: str = "one") -> int:
    recap = re.search(rf"^{host} .*changed=(\d+)", run.out, re.MULTILINE)
    assert recap, run.out
    return int(recap[1])


def heard(run: Run) -> int:
    return run.out.count('"HEARD"')


def due() -> None:
    """Let the second pass after which SOON makes a lease due."""
    time.sleep(1.1)


@pytest.fixture
def hosts(lab: Lab) -> Hosts:
    lab.configure()
    return Hosts(lab, one={})


# Delivery


def test_each_host_gets_a_credential_of_its_own_and_keeps_it(lab: Lab) -> None:
    lab.configure()
    hosts = Hosts(lab, one={}, two={})
    first = hosts.deliver()
    assert heard(first) == 2
    assert hosts.is_well("one") and hosts.is_well("two")
    assert (hosts.key("one") == hosts.key("two")) is False
    assert len(lab.accounts()) == 2
    assert hosts.note().stat().st_mode & 0o7777 == 0o600
    assert (MARKER in hosts.note().read_text()) is False
    # What `have` gives the hosts of other tests is the same.
    noted = {host: json.loads(hosts.note(host).read_text().splitlines()[0])["lease_id"] for host in hosts.hosts}
    assert set(noted.values()) == {record.lease.lease_id for record in records(lab.mount())}
    assert all(hosts.note(host).read_text() == hosts.first_note(host, noted[host]) for host in noted)
    began = lab.double.mark()
    files = {path: (path.stat().st_ino, path.stat().st_mtime) for path in (lab.path / "hosts").glob("*/*")}
    again = hosts.deliver()
    assert changed(again, "one") == changed(again, "two") == heard(again) == 0
    assert not lab.double.requests(began)
    assert files == {path: (path.stat().st_ino, path.stat().st_mtime) for path in (lab.path / "hosts").glob("*/*")}


@pytest.mark.once
def test_the_formats_and_a_change_of_format(hosts: Hosts) -> None:
    hosts.deliver(variable="OTHER_NAME", ttl="30m")
    key = hosts.key(variable="OTHER_NAME")
    assert hosts.opens(key)
    hosts.deliver(format="raw", mode="0640")
    raw = hosts.path().read_text()
    assert hosts.opens(raw) and not hosts.opens(key)
    assert hosts.path().stat().st_mode & 0o7777 == 0o640
    hosts.deliver(format="json")
    held = json.loads(hosts.path().read_text())
    assert hosts.opens(held["api_key"]) and not hosts.opens(raw)
    (account,) = hosts.lab.double.state()["service_accounts"]
    assert account["name"] == held["service_account"] and held["lease_id"].startswith("openai/creds/my-role/")
    assert set(held) == {"api_key", "api_key_id", "lease_id", "project_id", "service_account", "service_account_id"}
    assert changed(hosts.deliver(format="json")) == 0


def test_check_mode_says_what_would_be_and_does_nothing(hosts: Hosts) -> None:
    def state() -> tuple[object, ...]:
        files = {path: path.read_bytes() for path in hosts.lab.path.joinpath("hosts").rglob("*") if path.is_file()}
        return files, hosts.lab.double.state(), hosts.lab.leases()

    before = state()
    assert changed(hosts.deliver("--check", "--diff")) > 0
    assert (state() == before) is True
    hosts.have()
    before = state()
    assert changed(hosts.deliver("--check", "--diff")) == 0
    due()
    assert changed(hosts.deliver("--check", "--diff", **SOON)) == 1
    assert changed(hosts.deliver("--check", "--diff", format="raw")) > 0
    assert changed(hosts.deliver("--check", "--diff", state="absent")) == 2
    assert (state() == before) is True


@pytest.mark.once
def test_a_file_that_others_could_read_is_closed_to_them(hosts: Hosts) -> None:
    """One that is there before, and one that somebody opens later; the key stays then."""
    hosts.path().parent.mkdir(parents=True)
    hosts.path().write_text("OPENAI_API_KEY=sk-old\n")
    hosts.path().chmod(0o644)
    hosts.deliver()
    assert hosts.is_well()
    key = hosts.key()
    hosts.path().chmod(0o666)
    run = hosts.deliver()
    assert changed(run) == 1 and heard(run) == 0
    assert hosts.is_well() and (hosts.key() == key) is True


# The end of a lease


def test_a_renewal_changes_no_file_and_calls_no_handler(hosts: Hosts) -> None:
    hosts.have()
    before = {path: (path.read_bytes(), path.stat().st_mtime) for path in (hosts.path(), hosts.note())}
    (end,) = [key["expires_at"] for key in hosts.lab.double.state()["api_keys"]]
    due()
    run = hosts.deliver(**SOON)
    assert changed(run) == 1 and heard(run) == 0
    assert ({path: (path.read_bytes(), path.stat().st_mtime) for path in before} == before) is True
    (renewed,) = [key["expires_at"] for key in hosts.lab.double.state()["api_keys"]]
    assert renewed > end
    assert hosts.is_well()


@pytest.mark.once
def test_what_cannot_be_renewed_is_replaced(lab: Lab) -> None:
    lab.configure(renewable=False)
    lab.role("at-its-max-ttl", max_ttl="1h")
    hosts = Hosts(lab, one={"issued_from": "my-role"}, two={"issued_from": "at-its-max-ttl"})
    hosts.have()
    before = [hosts.key(host) for host in hosts.hosts]
    due()
    run = hosts.deliver(role="{{ issued_from }}", **SOON)
    assert heard(run) == 2
    assert all(hosts.is_well(host) for host in hosts.hosts) and not any(map(hosts.opens, before))
    assert len(lab.accounts()) == len(lab.leases()) == 2
    again = hosts.deliver(role="{{ issued_from }}")
    assert not any(changed(again, host) for host in hosts.hosts)


@pytest.mark.once
def test_a_third_of_the_duration_is_soon_enough_unless_told_otherwise(lab: Lab) -> None:
    """Of an hour; each host has as many minutes left as its name says."""
    mount = lab.configure()
    before = "openai_creds_deliver_renew_before"
    is_due = {"21": False, "19": True, "21_told_20": False, "21_told_22": True}
    hosts = Hosts(lab, **{host: {before: f"{host[-2:]}m"} if "told" in host else {} for host in is_due})
    hosts.have()
    for host in is_due:
        (noted,) = re.findall(r'"lease_id": "(.+?)"', hosts.note(host).read_text())
        renew(mount, t.cast(Record, find_record(mount, noted)), int(host[:2]) * 60, dry_run=False)
    run = hosts.deliver()
    assert {host: changed(run, host) for host in is_due} == is_due


@pytest.mark.once
def test_more_than_a_lease_ever_has_does_not_renew_it_each_time(hosts: Hosts) -> None:
    hosts.deliver(renew_before="2h")
    due()
    assert changed(hosts.deliver(renew_before="2h")) == 0


@pytest.mark.once
def test_the_old_key_lives_on_for_as_long_as_is_asked_for(hosts: Hosts) -> None:
    """It ends by itself, at OpenAI too, and nobody has to come back for it."""
    hosts.have()
    old = hosts.key()
    hosts.deliver(format="raw", keep_old="5m")
    assert hosts.opens(old) and hosts.opens(hosts.path().read_text())
    ends = sorted(key["expires_at"] - time.time() for key in hosts.lab.double.state()["api_keys"])
    assert ends[0] <= 300 < 3500 < ends[1]
    assert json.loads(hosts.note().read_text().splitlines()[0])["replaced"] == []
    hosts.lab.double.clock(301)
    assert not hosts.opens(old)


@pytest.mark.slow
@pytest.mark.long
def test_an_old_key_that_cannot_be_shortened_is_ended_by_a_later_run(hosts: Hosts) -> None:
    hosts.lab.role(renewable=False)
    hosts.have()
    old = hosts.key()
    begun = time.monotonic()
    hosts.deliver(format="raw", keep_old="60s")
    # By now the minute has begun.
    replaced = time.monotonic()
    run = hosts.deliver(format="raw", keep_old="60s")
    if time.monotonic() - begun < 55:
        assert changed(run) == 0 and hosts.opens(old)
    time.sleep(max(0, 61 - (time.monotonic() - replaced)))
    run = hosts.deliver(format="raw", keep_old="60s")
    assert heard(run) == 0
    assert not hosts.opens(old) and hosts.opens(hosts.path().read_text())
    assert changed(hosts.deliver(format="raw", keep_old="60s")) == 0


# What somebody does behind our back


@pytest.mark.once
def test_what_is_not_valid_any_more_is_replaced(lab: Lab) -> None:
    lab.configure()
    hosts = Hosts(lab, edited={}, removed={}, revoked={}, well={})
    hosts.have()
    before = {host: hosts.key(host) for host in hosts.hosts}
    hosts.path("edited").write_text("OPENAI_API_KEY=sk-by-hand\n")
    hosts.path("removed").unlink()
    lease = json.loads(hosts.note("revoked").read_text().splitlines()[0])["lease_id"]
    revoked = lab.play([{"ephemeral.openai.openai_lease": {"lease_id": lease}}])
    assert revoked.rc == 0, revoked.out
    assert heard(hosts.deliver()) == 3
    assert all(hosts.is_well(host) for host in hosts.hosts)
    assert [host for host, key in before.items() if hosts.opens(key)] == ["well"]
    assert len(lab.accounts()) == 4
    again = hosts.deliver()
    assert not any(changed(again, host) for host in hosts.hosts)


@pytest.mark.once
def test_a_note_that_somebody_has_changed_leads_to_a_new_credential(lab: Lab) -> None:
    """Which lease it was about nobody can tell any more. It is on record, and ends by itself."""
    lab.configure()
    lab.role("other")
    spoiled: dict[str, t.Callable[[str], str]] = {
        "cut": lambda note: note[:100],
        "bytes": lambda note: "\x00\xff{" + note,
        "edited": lambda note: note.replace("openai/creds/my-role/", "openai/creds/other/"),
        "empty": lambda _note: "",
        "other": lambda _note: "{}\n44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\n",
        "well": lambda note: note,
    }
    hosts = Hosts(lab, **{host: {} for host in spoiled})
    hosts.have()
    for host, spoil in spoiled.items():
        hosts.note(host).write_text(spoil(hosts.note(host).read_text()), encoding="latin-1")
    hosts.note("removed").parent.mkdir()
    hosts.path("removed").write_bytes(hosts.path("well").read_bytes())
    hosts.hosts["removed"] = hosts.hosts["well"]
    hosts.deliver()
    assert all(hosts.is_well(host) for host in hosts.hosts)
    assert len({hosts.key(host) for host in hosts.hosts}) == 7
    assert set(lab.leases()) == lab.accounts() and len(lab.accounts()) == 7 + 5
    again = hosts.deliver()
    assert not any(changed(again, host) for host in hosts.hosts)


@pytest.mark.once
def test_an_image_of_a_host_takes_no_key_from_it(lab: Lab) -> None:
    """Somebody copies the files of one to another. Its note is about the lease of the first, which is not to be revoked."""
    lab.configure()
    hosts = Hosts(lab, one={})
    hosts.have()
    hosts.path("two").parent.mkdir()
    for path in (hosts.path, hosts.note):
        path("two").write_bytes(path("one").read_bytes())
    Hosts(lab, two={}).deliver()
    assert hosts.is_well("one") and hosts.is_well("two")
    assert (hosts.key("one") == hosts.key("two")) is False
    Hosts(lab, two={}).deliver(state="absent")
    assert hosts.is_well("one") and not hosts.path("two").exists()


@pytest.mark.once
def test_another_role_replaces_the_credential_and_another_mount_leaves_the_lease_alone(hosts: Hosts) -> None:
    hosts.lab.role("other")
    hosts.have()
    before = hosts.key()
    hosts.deliver(role="other")
    assert hosts.is_well() and not hosts.opens(before)
    assert [name for name in hosts.lab.accounts() if "other" in name] == list(hosts.lab.accounts())
    before = hosts.key()
    double = hosts.lab.double
    second = [
        {"ephemeral.openai.openai_config": {"admin_api_key": double.admin_key, "api_endpoint": double.url}},
        {"ephemeral.openai.openai_role": {"name": "my-role", "project_id": "proj_lab"}},
    ]
    ready = hosts.lab.play(second, env={"OPENAI_CREDS_MOUNT": "second"})
    assert ready.rc == 0, ready.out
    hosts.deliver("-e", "openai_creds_mount=second")
    assert hosts.is_well() and hosts.opens(before)
    assert (hosts.key() == before) is False
    assert changed(hosts.deliver("-e", "openai_creds_mount=second")) == 0
    refused = hosts.deliver(state="absent", rc=2)
    assert "is not of this mount" in refused.out and hosts.is_well()


# Hosts that cannot be reached


@pytest.mark.parametrize(
    "play",
    [
        pytest.param({}, id="all"),
        pytest.param({"serial": 2}, id="serial", marks=pytest.mark.once),
        pytest.param({"strategy": "free"}, id="free"),
        pytest.param({"serial": 1, "ignore_unreachable": True}, id="one by one"),
    ],
)
def test_a_dead_host_does_not_hold_up_the_others(lab: Lab, play: dict[str, t.Any]) -> None:
    lab.configure()
    hosts = Hosts(lab, dead=CLOSED, one={}, two={})
    run = hosts.deliver(play=play, rc=0 if "ignore_unreachable" in play else 4)
    assert "dead" in run.out and "UNREACHABLE" in run.out
    assert hosts.is_well("one") and hosts.is_well("two")
    assert len(lab.accounts()) == 2, "something was issued for a host that cannot be reached"


@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_dead_host_keeps_its_lease(lab: Lab, state: str) -> None:
    lab.configure(renewable=False)
    hosts = Hosts(lab, one={}, two={})
    hosts.have()
    due()
    dying = Hosts(lab, one=CLOSED, two={})
    dying.deliver(rc=4, state=state, **SOON)
    assert hosts.is_well("one")
    assert len(lab.accounts()) == (2 if state == "present" else 1)


SSH = """#!/bin/sh
# An ssh to this machine, which from its nth call on does not get through.
for command; do :; done
echo "$command" >> "{folder}/calls"
[ "$(wc -l < "{folder}/calls")" -lt "$(cat "{folder}/until")" ] || {{ echo "No route to host" >&2; exit 255; }}
exec sh -c "$command"
"""


def lossy(lab: Lab, until: int, host: str = "one") -> dict[str, t.Any]:
    """Return what makes a host one that is lost with its nth call."""
    folder = calls_of(lab, host).parent
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "ssh"
    script.write_text(SSH.format(folder=folder))
    script.chmod(0o755)
    calls_of(lab, host).write_text("")
    (folder / "until").write_text(str(until))
    return {
        "ansible_connection": "ssh",
        "ansible_ssh_executable": str(script),
        "ansible_ssh_transfer_method": "piped",
        "ansible_ssh_retries": 0,
        "ansible_pipelining": True,
    }


def calls_of(lab: Lab, host: str = "one") -> Path:
    """Return the file that has a line for each call to a lossy host."""
    return lab.path / "lossy" / host / "calls"


def calls(lab: Lab, rc: int = 0) -> int:
    """Return how many calls to a host a run makes that is to replace its credential."""
    Hosts(lab, one=lossy(lab, 10000)).deliver(rc=rc, **SOON)
    return len(calls_of(lab).read_text().splitlines())


def calls_before_issue(lab: Lab) -> int:
    """Return how many calls to a host come before its credential is issued: found by refusing the issue."""
    lab.double.fault(kind="refuse", status=403, method="POST", path="/service_accounts$", times=1)
    return calls(lab, rc=2)


def test_a_host_that_is_lost_between_issue_and_delivery(lab: Lab) -> None:
    """The credential that was issued for it is revoked, and the old one stays."""
    lab.configure(renewable=False)
    hosts = Hosts(lab, one={}, two={})
    hosts.have()
    old = hosts.key()
    due()
    before = calls_before_issue(lab)
    hosts.hosts["one"] = lossy(lab, before + 1)
    run = hosts.deliver(rc=2, **SOON)
    assert "is revoked, and the lease that was there before lives on" in run.out
    assert (hosts.key() == old) is True
    assert hosts.is_well("one") and hosts.is_well("two")
    assert len(lab.accounts()) == len(lab.leases()) == 2


@pytest.mark.slow
@pytest.mark.long
def test_a_host_may_be_lost_at_any_call(lab: Lab) -> None:
    """Of those that come after the issue, and the last before it. Each host is lost at another, and the last at none.

    Each has a role of its own, so that the name of an account tells whose it is.
    """
    lab.configure(renewable=False)
    Hosts(lab, one={}).have()
    due()
    first, last = calls_before_issue(lab), calls(lab)
    assert last > first + 3, "the calls are not counted"
    lost = {f"host{call}": call for call in range(first, last + 2)}
    for host in lost:
        lab.role(host, renewable=False)
    hosts = Hosts(lab, **{host: {"issued_from": host} for host in lost})
    hosts.have()
    old = {host: hosts.key(host) for host in lost}
    due()
    losing = Hosts(lab, **{host: {"issued_from": host, **lossy(lab, call, host)} for host, call in lost.items()})
    play = losing.playbook(role="{{ issued_from }}", **SOON)
    run = lab.play(play, "-i", losing.inventory(), timeout=600)

    def accounts(host: str) -> int:
        return len([name for name in lab.accounts() if name.split("-")[1] == host])

    assert (MARKER in run.out) is False
    for host, call in lost.items():
        (recap,) = re.findall(rf"^{host} .*unreachable=(\d+) +failed=(\d+)", run.out, re.MULTILINE)
        assert (recap == ("0", "0")) is (call > last), f"call {call}: {recap}"
        assert hosts.is_well(host), f"call {call}: the host has no valid key"
        may_hold = rf"{re.escape(str(hosts.path(host)))}; its lease \S+ lives on, since the file may hold its key"
        if (hosts.key(host) == old[host]) is True and not re.search(may_hold, run.out):
            assert accounts(host) == 1, f"call {call}: a lease is left that no host has"
    # They come back.
    back = lab.play(hosts.playbook(role="{{ issued_from }}"), "-i", hosts.inventory(), timeout=600)
    assert back.rc == 0, back.out
    for host, call in lost.items():
        assert hosts.is_well(host), f"call {call}: it does not come right again"
        assert accounts(host) == 1, f"call {call}: a lease is left"
    assert len(lab.accounts()) == len(lab.leases()) == len(lost) + 1


@pytest.mark.once
def test_a_place_that_cannot_be_written_shows_before_a_key_is_issued(lab: Lab) -> None:
    """A folder that is closed; and at the path of the file or of its note a folder, or a link to what is no file."""
    lab.configure()
    hosts = Hosts(lab, closed={}, file_is_folder={}, note_is_folder={}, file_is_link={}, note_is_link={})
    taken = {}
    for host in hosts.hosts:
        hosts.path(host).parent.mkdir(parents=True)
        if host != "closed":
            taken[host] = hosts.path(host) if host.startswith("file") else hosts.note(host)
            taken[host].mkdir() if host.endswith("folder") else taken[host].symlink_to("/dev/null")
    hosts.path("closed").parent.chmod(0o500)
    refused = hosts.deliver(rc=2)
    hosts.path("closed").parent.chmod(0o700)
    for run in (refused, hosts.deliver("--limit", "!closed", rc=2, state="absent")):
        assert all(f"{path} is there and is not a regular file" in run.out for path in taken.values()), run.out
    assert "failed=1" in re.findall(r"^closed .*$", refused.out, re.MULTILINE)[0]
    assert not [request for request in lab.double.requests() if request["method"] == "POST"]


@pytest.mark.once
def test_what_cannot_be_put_in_place_is_taken_back(hosts: Hosts) -> None:
    """The folder lets itself be written no more once there is a key."""
    hosts.have()
    old = hosts.key()
    hosts.path().parent.chmod(0o500)
    try:
        run = hosts.deliver(rc=2, format="raw")
    finally:
        hosts.path().parent.chmod(0o700)
    assert "could not be put into" in run.out and "is revoked" in run.out
    assert (hosts.key() == old) is True and hosts.is_well()
    assert len(hosts.lab.accounts()) == 1
    assert changed(hosts.deliver()) == 0


# Runs that do not get to their end


def test_a_handler_that_fails_costs_no_key_and_is_told_again(hosts: Hosts) -> None:
    hosts.have()
    old = hosts.key()
    due()
    hosts.lab.role(renewable=False)
    broken = {**HANDLER, "ansible.builtin.debug": {"msg": "{{ undefined_here }}"}}
    hosts.deliver(rc=2, play={"handlers": [broken]}, format="raw")
    new = hosts.path().read_text()
    assert hosts.opens(old) and hosts.opens(new)
    run = hosts.deliver(format="raw")
    assert heard(run) == 1
    assert not hosts.opens(old) and (hosts.path().read_text() == new) is True and hosts.opens(new)
    assert changed(hosts.deliver(format="raw")) == 0


@pytest.mark.once
def test_an_old_lease_that_openai_refuses_to_end_is_tried_again(hosts: Hosts) -> None:
    hosts.have()
    old = hosts.key()
    hosts.lab.double.fault(kind="refuse", status=403, method="DELETE", path="/service_accounts/", times=1)
    run = hosts.deliver(rc=2, format="raw")
    assert heard(run) == 1 and "a lease that it replaced could not be revoked; the next run tries again" in run.out
    assert hosts.opens(old) and hosts.opens(hosts.path().read_text())
    run = hosts.deliver(format="raw")
    assert heard(run) == 0 and not hosts.opens(old)
    assert len(hosts.lab.accounts()) == 1
    assert changed(hosts.deliver(format="raw")) == 0


@pytest.mark.once
def test_openai_being_away_changes_nothing(hosts: Hosts) -> None:
    hosts.have()
    due()
    hosts.lab.double.fault(kind="refuse", status=401, method="POST", path=".")
    hosts.deliver(rc=2, **SOON)
    hosts.lab.double.clear_faults()
    assert hosts.is_well() and len(hosts.lab.accounts()) == 1
    assert changed(hosts.deliver(**SOON)) == 1


@pytest.mark.parametrize(
    ("kind", "method"),
    [("kill_before", "POST"), ("kill_after", "POST"), ("kill_before", "DELETE"), ("kill_after", "DELETE")],
)
@pytest.mark.once
def test_a_run_that_is_killed_is_made_up_for_by_the_next(hosts: Hosts, kind: str, method: str) -> None:
    hosts.have()
    path = "/service_accounts$" if method == "POST" else "/service_accounts/"
    process = hosts.lab.start(hosts.playbook(format="raw"), "-i", hosts.inventory())
    hosts.lab.double.fault(kind=kind, method=method, path=path, times=1, pgid=process.pid)
    process.communicate(timeout=240)
    # Its workers have sessions of their own, and go on for a moment.
    hosts.deliver(format="raw")
    assert hosts.opens(hosts.path().read_text())
    cleaned = hosts.lab.play([{"ephemeral.openai.openai_cleanup": {"orphans": "delete", "grace": "0"}}])
    assert cleaned.rc == 0, cleaned.out
    assert set(hosts.lab.leases()) == hosts.lab.accounts()


# The end


def test_absent_revokes_and_removes(hosts: Hosts) -> None:
    hosts.have()
    key = hosts.key()
    assert changed(hosts.deliver(state="absent")) == 2
    assert not hosts.opens(key) and not hosts.lab.accounts()
    assert not list(hosts.path().parent.iterdir())
    assert changed(hosts.deliver(state="absent")) == 0


@pytest.mark.once
def test_absent_leaves_the_files_as_long_as_the_lease_is_there(hosts: Hosts) -> None:
    hosts.have()
    hosts.lab.double.fault(kind="refuse", status=403, method="DELETE", path="/service_accounts/", times=1)
    hosts.deliver(state="absent", rc=2)
    assert hosts.path().exists() and hosts.note().exists()
    hosts.deliver(state="absent")
    assert not hosts.lab.accounts() and not hosts.path().exists()


# Variables


NONSENSE: list[tuple[str, t.Any, str]] = [
    ("mode", "0644", "is not a mode that lets the owner read and gives others no access"),
    ("mode", 0o644, "'0644' is not a mode"),
    ("mode", "0604", "is not a mode"),
    ("mode", "0601", "is not a mode"),
    ("mode", 600, "is not a mode"),
    ("mode", "u=rw", "is not a mode"),
    ("mode", "0000", "is not a mode"),
    ("role", "", "is empty"),
    ("state", "gone", "is neither present nor absent"),
    ("path", "etc/x", "is not the absolute path of a file"),
    ("path", "/etc/openai\n", "is not the absolute path of a file"),
    ("path", "/etc/openai/", "is not the absolute path of a file"),
    ("format", "yaml", "is not one of env, raw and json"),
    ("variable", "A-B", "is not the name of an environment variable"),
    ("variable", "A=B\nC", "is not the name of an environment variable"),
    ("variable", "A\n", "is not the name of an environment variable"),
    ("ttl", "1 hour", "is not a duration"),
    ("renew_before", "soon", "is not a duration"),
    ("renew_before", 0, "is not a duration of a second or more"),
    ("keep_old", "-1", "is not a duration"),
]


def test_a_variable_that_makes_no_sense_gets_a_sentence_before_anything_happens(lab: Lab) -> None:
    """Each on a host of its own."""
    lab.configure()
    variables = {
        f"host{index:02}": (f"openai_creds_deliver_{name}", value) for index, (name, value, _why) in enumerate(NONSENSE)
    }
    hosts = Hosts(lab, **{host: {name: value} for host, (name, value) in variables.items()})
    # So that those of the hosts count.
    play = hosts.playbook()
    given = play[0].pop("vars")
    for host in hosts.hosts.values():
        host.update({**given, **host})
    run = lab.play(play, "-i", hosts.inventory())
    assert run.rc == 2
    for host, (name, _value, complaint) in zip(variables, NONSENSE):
        (said,) = re.findall(rf"^fatal: \[{host}\].*$|^failed: \[{host}\].*$", run.out, re.MULTILINE)[:1]
        assert f"openai_creds_deliver_{name}: " in said and complaint in said, said
    assert not (lab.path / "hosts").exists() and not lab.accounts()


def test_what_a_form_leaves_blank_is_not_given(lab: Lab) -> None:
    lab.configure()
    names = ("state", "ttl", "format", "variable", "owner", "group", "mode", "renew_before", "units", "keep_old")
    blank = {"empty": "", "null": None}
    hosts = Hosts(
        lab, **{host: {f"openai_creds_deliver_{name}": value for name in names} for host, value in blank.items()}
    )
    hosts.deliver()
    assert all(hosts.is_well(host) for host in hosts.hosts)
    for host in hosts.hosts:
        hosts.hosts[host] = {"ansible_connection": "local"}
    again = hosts.deliver()
    assert not any(changed(again, host) for host in hosts.hosts)


@pytest.mark.once
def test_the_owner_is_who_is_asked_for(hosts: Hosts) -> None:
    owner, group = pwd.getpwuid(os.getuid())[0], grp.getgrgid(os.getgid())[0]
    hosts.deliver(owner=owner, group=group, mode=0o600)
    assert hosts.is_well()
    assert hosts.path().stat().st_uid == os.getuid()


def test_the_defaults_are_those_that_are_documented() -> None:
    role = Path(__file__).resolve().parents[2] / "roles" / "deliver"
    specification = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]
    documented = {name: option["default"] for name, option in specification["options"].items() if "default" in option}
    assert documented == yaml.safe_load((role / "defaults" / "main.yml").read_text())


# Units


SYSTEMCTL = """#!/bin/sh
echo "$*" >> "{folder}/systemctl.log"
{more}
"""


def systemctl(lab: Lab, more: str = "") -> Path:
    """Put a systemctl into the path; returns its log."""
    bin_ = lab.path / "bin"
    bin_.mkdir()
    (bin_ / "systemctl").write_text(SYSTEMCTL.format(folder=lab.path, more=more))
    (bin_ / "systemctl").chmod(0o755)
    lab.env["PATH"] = f"{bin_}:{lab.env['PATH']}"
    return lab.path / "systemctl.log"


@pytest.mark.once
def test_units_are_told_of_their_own_file(hosts: Hosts) -> None:
    """The role is in a play twice, with handlers of one name."""
    log = systemctl(hosts.lab)
    given = {
        "openai_creds_deliver_role": "my-role",
        "openai_creds_deliver_path": f"{hosts.lab.path}/other.env",
        "openai_creds_deliver_units": ["three.service"],
    }
    roles = ["ephemeral.openai.deliver", {"role": "ephemeral.openai.deliver", "vars": given}]
    hosts.deliver(play={"roles": roles}, units="one.service, two.timer")
    said = "try-reload-or-restart -- "
    assert log.read_text().splitlines() == [f"{said}one.service two.timer", f"{said}three.service"]
    assert changed(hosts.deliver(play={"roles": roles}, units="one.service, two.timer")) == 0
    (hosts.lab.path / "other.env").unlink()
    hosts.deliver(play={"roles": roles}, units="one.service, two.timer")
    assert log.read_text().splitlines()[2:] == [f"{said}three.service"]


@pytest.mark.once
def test_units_that_do_not_come_back_fail_the_host_and_keep_the_old_key(hosts: Hosts) -> None:
    hosts.have()
    old = hosts.key()
    systemctl(hosts.lab, "exit 1")
    hosts.deliver(rc=2, format="raw", units=["one.service"])
    assert hosts.opens(old)


PROGRAM = """
import json, signal, sys, threading, time, urllib.error, urllib.request
path, url, log, loaded = sys.argv[1:]
again = threading.Event()
signal.signal(signal.SIGHUP, lambda *_: again.set())
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
again.set()
with open(log, "w") as answers:
    while True:
        if again.is_set():
            again.clear()
            with open(path) as file:
                key = file.read().strip().partition("=")[2]
            # As systemd is told that a reload is over.
            with open(loaded, "a") as file:
                file.write("loaded\\n")
        try:
            request = urllib.request.Request(url + "/models", headers={"Authorization": "Bearer " + key})
            status = opener.open(request, timeout=10).status
        except urllib.error.HTTPError as error:
            status = error.code
        print(status, key[-8:], file=answers, flush=True)
        again.wait(0.1)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.once
def test_a_program_goes_on_through_ten_keys_without_one_refused_call(hosts: Hosts) -> None:
    """It reads the file when it starts and when it is told to, ten times a second it makes a call."""
    lab = hosts.lab
    lab.role(renewable=False)
    hosts.have()
    answers, loaded = lab.path / "answers", lab.path / "loaded"
    (lab.path / "program.py").write_text(PROGRAM)
    arguments = (str(lab.path / "program.py"), str(hosts.path()), lab.double.url, str(answers), str(loaded))
    program = subprocess.Popen((sys.executable, *arguments))
    try:
        # As systemd does with a unit that says when it has reloaded, this returns when that is so.
        more = f"""
        before=$(wc -l < {loaded})
        kill -HUP {program.pid}
        while [ "$(wc -l < {loaded})" -eq "$before" ]; do sleep 0.05; done
        """
        while not loaded.exists() or not loaded.read_text():
            time.sleep(0.05)
        systemctl(lab, more)
        for _change in range(10):
            due()
            hosts.deliver(units=["program.service"], **SOON)
        time.sleep(0.5)
        assert program.poll() is None, "the program has ended"
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
    seen = [line.split() for line in answers.read_text().splitlines()]
    assert len({key for _status, key in seen}) == 11
    assert {status for status, _key in seen} == {"200"}
    assert len(seen) > 100
    assert len(lab.accounts()) == 1


# Secrets


def test_no_key_is_printed_or_left_anywhere_but_in_the_file(lab: Lab, temporary: Path) -> None:
    """Also where it fails, and also not in what is called on the host."""
    lab.configure(renewable=False)
    hosts = Hosts(lab, one=lossy(lab, 100000))
    env = {**lab.everything_written(temporary), "ANSIBLE_KEEP_REMOTE_FILES": "0", "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1"}
    out, keys = "", []
    for variables in ({}, SOON, {"format": "json"}, {"format": "raw"}):
        due()
        run = lab.play(hosts.playbook(**variables), "-i", hosts.inventory(), "-vvvv", "--diff", env=env)
        assert run.rc == 0, "the role has failed"
        keys.append(hosts.path().read_text())
        out += run.out
    hosts.path().parent.chmod(0o500)
    run = lab.play(hosts.playbook(format="env"), "-i", hosts.inventory(), "-vvvv", "--diff", env=env)
    hosts.path().parent.chmod(0o700)
    assert run.rc == 2
    out += run.out
    hosts.deliver(state="absent")
    assert all(MARKER in key for key in keys) and "attempt 1" in out, "this shows nothing"
    places = {"output": out.encode(), "calls": calls_of(lab).read_bytes()}
    for path in (*lab.path.rglob("*"), *temporary.rglob("*")):
        if path.is_file():
            places[str(path)] = path.read_bytes()
    encoded = [base64.b64encode(b"x" * shift + MARKER.encode())[4:-4] for shift in range(3)]
    found = [place for place, content in places.items() if any(form in content for form in (MARKER.encode(), *encoded))]
    assert found == []
