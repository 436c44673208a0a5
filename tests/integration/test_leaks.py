# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret anywhere but in the encrypted store: everything printed at -vvvv and everything written is searched."""

from __future__ import annotations

import base64
import json
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

from ansible.parsing.vault import VaultLib, VaultSecret
from lab import MARKER, VAULT_PASSWORD, Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue

ADMIN_KEY = "{{ vault_admin_key }}"


def _play(lab: Lab) -> list[object]:
    """Everything that handles a secret, also where it fails."""
    config = {"organization_id": lab.double.organization, "api_endpoint": lab.double.url, "admin_api_key": ADMIN_KEY}
    refused = {"name": "Refused", "ignore_errors": True}
    tasks = [
        {"ephemeral.openai.openai_config": config, "diff": True},
        {"ephemeral.openai.openai_config": {**config, "update_admin_key": "always"}, "diff": True},
        {"ephemeral.openai.openai_config": {**config, "admin_api_key": "a " + ADMIN_KEY, "update_admin_key": "always"}}
        | refused,
        {"ephemeral.openai.openai_config": {**config, "unknown": 1}} | refused,
        {
            "ephemeral.openai.openai_admin_key": {"rotate": "always", "overlap": "1h"},
            "register": "rotated",
            "diff": True,
        },
        {"ansible.builtin.debug": {"var": "rotated"}},
        # Nobody knows the rotated key, so the rest goes on with one that is adopted.
        {
            "ephemeral.openai.openai_admin_key": {
                "new_admin_api_key": "{{ vault_other_key }}",
                "new_admin_api_key_id": "{{ vault_other_key_id }}",
            },
            "diff": True,
        },
        {"ephemeral.openai.openai_admin_key": {"new_admin_api_key": ADMIN_KEY, "new_admin_api_key_id": "key_x"}}
        | refused,
        {"ephemeral.openai.openai_admin_key": {"new_admin_api_key": "{{ vault_other_key }}"}} | refused,
        {"ephemeral.openai.openai_config": {**config, "update_admin_key": "always"}} | refused,
        {"ephemeral.openai.openai_config_info": {}, "register": "info"},
        {"ansible.builtin.debug": {"var": "info"}},
        {"ephemeral.openai.openai_role": {"name": "my-role", "project_id": "proj_lab"}, "diff": True},
        {"ephemeral.openai.openai_role": {"name": "elsewhere", "project_id": "proj_nowhere"}},
        {"ephemeral.openai.openai_creds": {"name": "my-role"}, "register": "issued", "diff": True},
        {"ephemeral.openai.openai_creds": {"name": "my-role", "count": 2}, "loop": [1, 2], "register": "several"},
        {"ephemeral.openai.openai_creds": {"name": "elsewhere"}} | refused,
        {"ansible.builtin.debug": {"msg": "{{ lookup('ephemeral.openai.openai_creds', 'my-role').lease_id }}"}},
        {"ansible.builtin.debug": {"msg": "{{ lookup('ephemeral.openai.openai_creds', 'elsewhere').lease_id }}"}}
        | refused,
        {"ephemeral.openai.openai_lease": {"lease_id": "{{ issued.creds.lease_id }}", "state": "renewed"}},
        {"ephemeral.openai.openai_lease": {"lease_id": "{{ issued.creds.lease_id }}"}},
        {"ephemeral.openai.openai_lease_info": {}, "register": "leases"},
        {"ansible.builtin.debug": {"var": "leases"}},
        {"ephemeral.openai.openai_cleanup": {"orphans": "delete"}} | refused,
    ]
    return [{"hosts": "all", "gather_facts": True, "tasks": tasks}]


def test_no_secret_is_printed_or_written(lab: Lab, temporary: Path) -> None:
    secrets = {"vault password": VAULT_PASSWORD, "admin key": lab.double.admin_key, "any key": MARKER}
    assert MARKER in lab.double.admin_key
    env = lab.everything_written(temporary)
    # Not through the environment: that is one of the facts that are gathered and cached.
    variables = lab.path / "variables.yml"
    vault = VaultLib([("default", VaultSecret(VAULT_PASSWORD.encode()))])
    other = lab.double.add_admin_key()
    secrets["adopted key"] = other["value"]
    named = {
        "vault_admin_key": lab.double.admin_key,
        "vault_other_key": other["value"],
        "vault_other_key_id": other["id"],
    }
    variables.write_bytes(vault.encrypt(json.dumps(named)))
    # An OpenAI, or a proxy before it, that gives away what it was sent.
    lab.double.fault(kind="refuse", status=403, method="POST", path="proj_nowhere", echo_authorization=True)
    run = lab.play(_play(lab), "-i", "one,two,", "-c", "local", "-vvvv", "-e", f"@{variables}", env=env, timeout=180)
    assert run.rc == 0, _without(run.out, secrets)
    assert "request req_" in run.out and "attempt 1" in run.out, "the calls were not logged, so this test shows nothing"
    assert "OpenAI answered 403" in run.out

    # Something of every kind must be in the store, or searching it shows nothing.
    issue(lab.mount(), "my-role")
    assert lab.double.state()["service_accounts"]

    places = {"output": run.out.encode()}
    for path in (*lab.path.rglob("*"), *temporary.rglob("*")):
        if path.is_file() and path != lab.password_file:
            places[str(path).removeprefix(f"{lab.path}/")] = path.read_bytes()
    assert any(place.startswith("home/.ansible/openai_creds/openai/leases/") for place in places)
    assert {"ansible.log"} < set(places)
    found = [
        f"{what} in {place}"
        for place, content in places.items()
        for what, secret in secrets.items()
        if _holds(content, secret)
    ]
    assert found == []


def _holds(content: bytes, secret: str) -> bool:
    """Return whether a secret is in there, as it is or in the encodings that programs use."""
    forms = {secret.encode(), secret.encode().hex().encode(), json.dumps(secret).strip('"').encode()}
    encoded = base64.b64encode(secret.encode())[: len(secret)].rstrip(b"=")
    return any(form in content for form in forms | {encoded})


def _without(text: str, secrets: dict[str, str]) -> str:
    for what, secret in secrets.items():
        text = text.replace(secret, f"<{what}>")
    return text


def test_nothing_of_the_store_is_readable(lab: Lab) -> None:
    """Not the keys, and not the names either."""
    lab.configure()
    issue(lab.mount(), "my-role")
    files = [path for path in lab.store_path.rglob("*") if path.is_file() and path.name != ".gitignore"]
    assert files
    for path in files:
        assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;"), path
        assert path.stat().st_mode & 0o777 == 0o600, path
        assert "my-role" not in str(path.relative_to(lab.store_path))
        lines = path.read_bytes().splitlines()
        assert all(set(line) <= set(b"0123456789abcdef") for line in lines[1:])
    for path in [lab.store_path, *(path for path in lab.store_path.rglob("*") if path.is_dir())]:
        assert path.stat().st_mode & 0o777 == 0o700, path


def test_everything_survives_view_and_rekey(lab: Lab) -> None:
    lab.configure()
    creds = issue(lab.mount(), "my-role")
    files = [str(path) for path in lab.store_path.rglob("*") if path.is_file() and path.name != ".gitignore"]
    views = []
    for file in files:
        run = lab.command("ansible-vault", "view", file)
        assert run.rc == 0, file
        views.append(json.loads(run.out))
    held = {key for view in views for key in view["documents"]}
    assert "definitions" in held
    config = next(view["documents"]["definitions"] for view in views if "definitions" in view["documents"])
    assert (config["data"]["config"]["admin_api_key"] == lab.double.admin_key) is True
    new = lab.path / "new-password"
    new.write_text("AnotherPassword-2b")
    run = lab.command("ansible-vault", "rekey", "--new-vault-password-file", str(new), *files)
    assert run.rc == 0, run.out
    tasks = [{"ephemeral.openai.openai_lease": {"lease_id": creds["lease_id"]}, "register": "r"}]
    assert "cannot be decrypted" in lab.play(tasks).out
    assert lab.accounts()
    run = lab.play(tasks, env={"ANSIBLE_VAULT_PASSWORD_FILE": str(new)})
    assert run.rc == 0, run.out
    assert lab.accounts() == set()


def test_a_key_ends_natively_or_not(lab: Lab) -> None:
    """With the double's clock moved past the lease, and no cleanup."""
    lab.configure(ttl="1m")
    lab.role("lasting", ttl="1m", native_expiry=False)
    ending, lasting = issue(lab.mount(), "my-role"), issue(lab.mount(), "lasting")
    assert _opens(lab, ending["api_key"]) and _opens(lab, lasting["api_key"])
    lab.double.clock(75)
    assert not _opens(lab, ending["api_key"])
    assert _opens(lab, lasting["api_key"])


def _opens(lab: Lab, key: str) -> bool:

    request = urllib.request.Request(f"{lab.double.url}/models", headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
            return True
    except urllib.error.HTTPError as error:
        assert error.code == 401
        return False


def test_an_exported_admin_key_is_a_fact_unless_facts_are_gathered_as_the_guide_says(lab: Lab, temporary: Path) -> None:
    """The environment of a control node is one of its facts. The guide's ways keep the key out of the cache, all at once on hosts of their own."""
    ways: dict[str, dict[str, object]] = {
        "exported": {"gather_facts": True},
        "no-facts": {"gather_facts": False},
        "no-env": {"gather_facts": True, "gather_subset": ["!env"]},
    }
    plays = [{"hosts": host, **way, "tasks": [{"ansible.builtin.ping": {}}]} for host, way in ways.items()]
    env = {**lab.everything_written(temporary), "OPENAI_ADMIN_KEY": lab.double.admin_key}
    run = lab.play(plays, "-i", ",".join(ways) + ",", "-c", "local", env=env)
    assert run.rc == 0, run.out
    cache = {path.name: path.read_bytes() for path in (lab.path / "facts").iterdir()}
    assert any(b"ansible_distribution" in facts for name, facts in cache.items() if "no-env" in name)
    assert [name.rpartition("_")[2] for name, facts in cache.items() if _holds(facts, lab.double.admin_key)] == [
        "exported"
    ]


def test_no_key_in_a_message_on_what_it_was_given_for(lab: Lab) -> None:
    """A key in the place of another value, by a slip in a variable's name: messages show what was given, but no key."""
    lab.configure()
    key = "{{ issued.creds.api_key }}"
    wrong: list[tuple[str, dict[str, t.Any]]] = [
        ("lease", {"lease_id": key}),
        ("lease", {"lease_id": f"openai/{key}"}),
        ("lease", {"prefix": key}),
        ("lease", {"prefix": f"openai/creds/{key}/"}),
        ("lease", {"prefix": "openai", "state": key}),
        ("lease_info", {"expiring_within": key}),
        ("lease_info", {"store_path": f"{lab.path}/{key}"}),
        ("creds", {"name": key}),
        ("creds", {"name": "my-role", "ttl": key}),
        ("creds", {"name": "my-role", "count": key}),
        ("role", {"name": "r", "project_id": key}),
        ("role", {"name": "r", "project": "{{ issued.creds.api_key[:60] }}"}),
        ("role", {"name": "r", "project_id": "proj_lab", "scopes": [key]}),
        ("role", {"name": "r", "project_id": "proj_lab", "renewable": key}),
        ("config", {"rotation_schedule": key}),
        ("config", {"mount": key}),
        ("cleanup", {"grace": key}),
        ("admin_key", {"new_admin_api_key_id": key, "new_admin_api_key": key}),
    ]
    lookups = [f"'my-role', {option}=issued.creds.api_key" for option in ("ttl", "reuse", "min_remaining", "mount")]
    lookups += ["issued.creds.api_key", "'my-role', **{issued.creds.api_key: 1}"]
    tasks = [{f"ephemeral.openai.openai_{module}": options, "ignore_errors": True} for module, options in wrong]
    tasks += [
        {"ansible.builtin.debug": {"msg": f"{{{{ lookup('ephemeral.openai.openai_creds', {arguments}) }}}}"}}
        | {"ignore_errors": True}
        for arguments in lookups
    ]
    run = lab.play(
        [{"ephemeral.openai.openai_creds": {"name": "my-role"}, "register": "issued"}, *tasks], "-vvv", timeout=240
    )
    assert run.rc == 0 and MARKER not in run.out and "sk-svcacct" not in run.out, run.out
    assert run.out.count("'sk-***'") >= len(tasks) - 4, run.out
