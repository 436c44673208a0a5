# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: one clear sentence, nothing changed, no traceback."""

from __future__ import annotations

import re
import typing as t

import pytest
from lab import PROJECT, Lab


def _role(**options: t.Any) -> dict[str, t.Any]:
    return {"ephemeral.openai.openai_role": {"name": "new-role", "project_id": PROJECT, **options}}


def _config(**options: t.Any) -> dict[str, t.Any]:
    return {"ephemeral.openai.openai_config": {"update_admin_key": "always", **options}}


def _rotation(**options: t.Any) -> dict[str, t.Any]:
    return {"ephemeral.openai.openai_config": options}


def _admin_key(**options: t.Any) -> dict[str, t.Any]:
    return {"ephemeral.openai.openai_admin_key": options}


def _lookup(arguments: str) -> dict[str, t.Any]:
    return {"ansible.builtin.debug": {"msg": "{{ lookup('ephemeral.openai.openai_creds', " + arguments + ") }}"}}


KEY = "sk-admin-0123456789abcdef"

CASES: dict[str, tuple[dict[str, t.Any], str]] = {
    "unknown project": (
        {"ephemeral.openai.openai_role": {"name": "new-role", "project": "nowhere"}},
        "project: project not found: 'nowhere' is not registered",
    ),
    "two projects": (_role(project="lab"), "mutually exclusive: project|project_id"),
    "no project": ({"ephemeral.openai.openai_role": {"name": "new-role"}}, "project, project_id"),
    "ttl over max_ttl": (_role(ttl="25h"), "ttl: 25h is longer than max_ttl (24h)"),
    "malformed ttl": (_role(ttl="soon"), "ttl: 'soon' is not a duration"),
    "fraction": (_role(ttl="1.5h"), "ttl: '1.5h' is not a duration"),
    "negative": (_role(ttl=-1), "ttl: '-1' is not a duration"),
    "zero": (_role(ttl=0), "ttl: '0' must be between"),
    "boolean ttl": (_role(ttl=True), "ttl: 'True' is not a duration"),
    "hostile role": (_role(name="../x"), "name: '../x' is not a valid name"),
    "role with newline": (_role(name="a\nb"), "name: 'a\\nb' is not a valid name"),
    "empty role": (_role(name=""), "name: '' is not a valid name"),
    "hostile project": (
        {"ephemeral.openai.openai_project": {"name": "p", "project_id": "proj/../x"}},
        "project_id: 'proj/../x' is not an id of OpenAI's",
    ),
    "same name twice": (_role(service_account_name_template="fixed"), "would give the same name twice"),
    "unknown placeholder": (_role(service_account_name_template="{random_suffix}{host}"), "'{host}' is not known"),
    "too long a name": (_role(service_account_name_template="x" * 125 + "{random_suffix}"), "is not a valid name"),
    "wrong type": (_role(renewable="perhaps"), "renewable"),
    "wrong list": (_role(scopes=[{"a": 1}]), "scopes"),
    "unknown option": (_role(colour="red"), "colour"),
    "unknown state": (_role(state="there"), "state"),
    "http endpoint": (
        _config(admin_api_key=KEY, api_endpoint="http://api.openai.com/v1"),
        "api_endpoint: 'http://api.openai.com/v1' would send the admin key unencrypted",
    ),
    "no url": (
        _config(admin_api_key=KEY, api_endpoint="api.openai.com"),
        "api_endpoint: 'api.openai.com' is not a URL",
    ),
    "no key": (_config(), "admin_api_key: give the organization's admin key, or set OPENAI_ADMIN_KEY"),
    "no key either": (_config(admin_api_key="two words"), "admin_api_key: this is not a key"),
    "short key": (
        _config(admin_api_key="sk-1"),
        "admin_api_key: this is not a key; one has 8 to 1024 ASCII characters",
    ),
    "wrong key": (_config(admin_api_key=KEY), "error validating OpenAI configuration: OpenAI answered 401"),
    "period and schedule": (
        _rotation(rotation_period="30d", rotation_schedule="0 3 * * 0"),
        "rotation_period, rotation_schedule: give only one of them",
    ),
    "window without schedule": (_rotation(rotation_window="1h"), "rotation_window: a window needs a rotation_schedule"),
    "no cron": (_rotation(rotation_schedule="weekly"), "rotation_schedule: 'weekly' is not a cron expression"),
    "never": (_rotation(rotation_schedule="0 0 30 2 *"), "rotation_schedule: '0 0 30 2 *' is not a cron expression"),
    "malformed period": (_rotation(rotation_period="monthly"), "rotation_period: 'monthly' is not a duration"),
    "key alone": (
        _admin_key(new_admin_api_key=KEY),
        "new_admin_api_key, new_admin_api_key_id: give both of them, or neither",
    ),
    "id alone": (
        _admin_key(new_admin_api_key_id="key_x"),
        "new_admin_api_key, new_admin_api_key_id: give both of them, or neither",
    ),
    "adopt no key": (
        _admin_key(new_admin_api_key="two words", new_admin_api_key_id="key_x"),
        "new_admin_api_key: this is not a key",
    ),
    "adopt a hostile id": (
        _admin_key(new_admin_api_key=KEY, new_admin_api_key_id="../x"),
        "new_admin_api_key_id: '../x' is not an id of OpenAI's",
    ),
    "adopt a wrong key": (
        _admin_key(new_admin_api_key=KEY, new_admin_api_key_id="key_x"),
        "new_admin_api_key: it does not work: OpenAI answered 401",
    ),
    "adopt with an expiry": (
        _admin_key(new_admin_api_key=KEY, new_admin_api_key_id="key_x", expires_in="1h"),
        "mutually exclusive: new_admin_api_key|expires_in",
    ),
    "key for too long": (_admin_key(rotate="always", expires_in="366d"), "expires_in: OpenAI takes at most 365 days"),
    "malformed overlap": (_admin_key(rotate="always", overlap="some"), "overlap: 'some' is not a duration"),
    "rotate sometimes": (_admin_key(rotate="sometimes"), "rotate"),
    "rotate nothing": (_admin_key(rotate="always", mount="other"), "OpenAI client not configured"),
    "hostile mount": (_role(mount="../../etc"), "mount: '../../etc' is not a valid name"),
    "unknown store": (_role(store="paper"), "store"),
    "store is a file": (_role(store_path="/dev/null"), "store_path: /dev/null is not a folder"),
    "issue unknown role": ({"ephemeral.openai.openai_creds": {"name": "nobody"}}, "name: role not found: 'nobody'"),
    "issue for too long": (
        {"ephemeral.openai.openai_creds": {"name": "my-role", "ttl": "2d"}},
        "ttl: 172800 s is longer than max_ttl of role 'my-role'",
    ),
    "issue none": ({"ephemeral.openai.openai_creds": {"name": "my-role", "count": 0}}, "count: 0 must be between"),
    "issue too many": (
        {"ephemeral.openai.openai_creds": {"name": "my-role", "count": 10**6}},
        "count: 1000000 must be",
    ),
    "issue without config": (
        {"ephemeral.openai.openai_creds": {"name": "my-role", "mount": "other"}},
        "OpenAI client not configured: mount 'other' has no admin key in store_path",
    ),
    "issue a part": ({"ephemeral.openai.openai_creds": {"name": "my-role", "count": 1.5}}, "'count'"),
    "no scopes": (_role(scopes=[]), "scopes: an empty list would mean all permissions at OpenAI"),
    "null scope": (_role(scopes=[None]), "scopes"),
    "blank ttl": (_role(ttl=""), "ttl: '' is not a duration"),
    "fraction of a second": (_role(ttl=1.5), "ttl: '1.5' is not a duration"),
    "new project without id": ({"ephemeral.openai.openai_project": {"name": "p"}}, "project_id: give the id"),
    "clean up nothing": (
        {"ephemeral.openai.openai_cleanup": {"mount": "other"}},
        "OpenAI client not configured: mount 'other' has no admin key in store_path",
    ),
    "revoke nothing": (
        {"ephemeral.openai.openai_lease": {"prefix": "other/creds/", "mount": "other"}},
        "OpenAI client not configured: mount 'other' has no admin key in store_path",
    ),
    "null lease": ({"ephemeral.openai.openai_lease": {"lease_id": None}}, "lease_id, prefix: give one of them"),
    "lease or prefix": ({"ephemeral.openai.openai_lease": {}}, "lease_id, prefix"),
    "foreign prefix": (
        {"ephemeral.openai.openai_lease": {"prefix": "other/"}},
        "prefix: 'other/' must begin with the mount",
    ),
    "hostile lease id": (
        {"ephemeral.openai.openai_lease": {"lease_id": "openai/creds/r/../../../x"}},
        "is not the id of a lease",
    ),
    "renew unknown lease": (
        {"ephemeral.openai.openai_lease": {"lease_id": "openai/creds/r/aaaa000-0123456789ab", "state": "renewed"}},
        "lease_id: lease not found",
    ),
    "no concurrency": (
        {"ephemeral.openai.openai_cleanup": {"max_concurrency": 0}},
        "max_concurrency: 0 must be at least 1",
    ),
    "no limit": ({"ephemeral.openai.openai_cleanup": {"limit": 0}}, "limit: 0 must be at least 1"),
    "lookup of nothing": (
        {"ansible.builtin.debug": {"msg": "{{ lookup('ephemeral.openai.openai_creds') }}"}},
        "name the role",
    ),
    "lookup unknown role": (_lookup("'nobody'"), "role not found: 'nobody'"),
    "lookup hostile role": (_lookup("'../x'"), "role: '../x' is not a valid name"),
    "lookup unknown option": (_lookup("'my-role', until='noon'"), "until: there is no such option of this lookup"),
    "lookup wrong reuse": (_lookup("'my-role', reuse='sometimes'"), "reuse"),
    "lookup wrong ttl": (_lookup("'my-role', ttl='1 fortnight'"), "ttl: '1 fortnight' is not a duration"),
    "lookup a number": (_lookup("17"), "role: 17 is not a valid name"),
}


def _snapshot(lab: Lab) -> dict[str, bytes]:
    """Return what is stored, but for the count of calls that OpenAI has refused."""
    files = (path for path in lab.store_path.rglob("*") if path.is_file() and path.parent.name != "api_errors")
    return {str(path): path.read_bytes() for path in files}


def _check(out: str, text: str) -> None:
    flat = re.sub(r"\s+", " ", out)
    assert text in flat, out
    assert "Traceback" not in out
    assert "defect" not in out


def test_one_clear_sentence_each(lab: Lab) -> None:
    """All in one run, since it is their sentences that are looked at; each as a task of its own."""
    lab.configure()
    before = _snapshot(lab)
    tasks = [{"name": f"case {name}", **task, "ignore_errors": True} for name, (task, _text) in CASES.items()]
    run = lab.play(tasks, env={"ANSIBLE_FORCE_COLOR": "0"})
    assert run.rc == 0, run.out
    parts = dict(re.findall(r"TASK \[case (.*?)\] \*+\n(.*?)(?=\nTASK|\nPLAY RECAP)", run.out, re.DOTALL))
    assert set(parts) == set(CASES)
    for name, (_task, text) in CASES.items():
        _check(parts[name], text)
        assert "fatal: [localhost]: FAILED!" in parts[name], parts[name]
    assert _snapshot(lab) == before
    assert lab.accounts() == set()


@pytest.mark.parametrize("task", [_role(), _lookup("'my-role'")], ids=["module", "lookup"])
def test_no_vault_secret(lab: Lab, task: dict[str, t.Any]) -> None:
    del lab.env["ANSIBLE_VAULT_PASSWORD_FILE"]
    run = lab.play([task])
    assert run.rc == 2
    _check(run.out, "needs a vault secret to encrypt with: give --vault-password-file, --ask-vault-pass or --vault-id")
    assert not lab.store_path.exists()


def test_not_configured(lab: Lab) -> None:
    lab.role()
    run = lab.play([{"ephemeral.openai.openai_creds": {"name": "my-role"}}])
    assert run.rc == 2
    _check(run.out, "OpenAI client not configured")


def test_ad_hoc(lab: Lab) -> None:
    lab.configure()
    run = lab.command("ansible", "localhost", "-m", "ephemeral.openai.openai_role_info")
    assert run.rc == 0 and '"my-role"' in run.out, run.out
