# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user sees of the way to OpenAI: it works with what offices set, and one sentence says what is in the way."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import yaml
from client.ways import Authority, tls_front
from lab import PROJECT, Lab

CONFIGURE = [
    {
        "ephemeral.openai.openai_config": {
            "admin_api_key": "{{ lookup('env', 'ADMIN') }}",
            "api_endpoint": "{{ lookup('env', 'ENDPOINT') }}",
        },
        "no_log": False,
    },
    {"ephemeral.openai.openai_role": {"name": "my-role", "project_id": PROJECT}},
    {
        "ansible.builtin.set_fact": {"key": "{{ lookup('ephemeral.openai.openai_creds', 'my-role').api_key }}"},
        "no_log": True,
    },
]


def test_a_company_with_a_ca_of_its_own(lab: Lab, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with tls_front(urlsplit(lab.double.url).port or 0, authority.context("localhost")) as port:
        env = {"ADMIN": lab.double.admin_key, "ENDPOINT": f"https://localhost:{port}/v1"}
        office = {
            "NO_PROXY": "localhost,fd00::/8,[oops",
            "HTTPS_PROXY": "http://127.0.0.1:1",
            "ALL_PROXY": "socks://x:1",
        }
        run = lab.play(CONFIGURE, env={**env, **office, "REQUESTS_CA_BUNDLE": str(authority.ca)})
        assert run.rc == 0, run.out
        assert run.out.count("NO_PROXY: '[oops' is not a host") == 1, run.out
        assert len(lab.accounts()) == 1

        run = lab.play(CONFIGURE[1:], env={**office, "SSL_CERT_FILE": str(Authority(tmp_path / "other").ca)})
        said = " ".join(run.out.split())
        assert run.rc == 2 and "is not trusted" in said and "REQUESTS_CA_BUNDLE" in said and "Traceback" not in said
        assert yaml.safe_dump(env["ADMIN"]) not in run.out and len(lab.accounts()) == 1
