# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of the vault_kv store: connection and login, named and found as community.hashi_vault has them."""

from __future__ import annotations


class ModuleDocFragment:
    """C(DOCUMENTATION) for modules and plugins, C(PLUGINS) adds the other sources of plugin options."""

    DOCUMENTATION = r"""
requirements:
  - hvac >= 1.1, with O(store=vault_kv)
options:
  url:
    description:
      - Address of HashiCorp Vault or OpenBao. This option and the others of Vault are for O(store=vault_kv).
      - The address may end in C(/v1) or C(/ui). A Unix socket is refused.
      - The options have the names and sources of C(community.hashi_vault). Unless it says otherwise, each comes from the first of these that is
        set, the option itself, the variable C(ansible_hashi_vault_<option>), the environment variables C(OPENAI_CREDS_VAULT_<OPTION>) and
        C(ANSIBLE_HASHI_VAULT_<OPTION>), and its name in section C([hashi_vault_collection]) of C(ansible.cfg).
        AWX credential types can set no environment variables that begin with C(ANSIBLE_).
      - The address also comes from the variable C(ansible_hashi_vault_addr), and its second environment variable is E(ANSIBLE_HASHI_VAULT_ADDR),
        not C(ANSIBLE_HASHI_VAULT_URL). If it is not set, E(BAO_ADDR) counts, then E(VAULT_ADDR).
    type: str
  proxies:
    description:
      - The proxy for C(http) and C(https), or a dictionary with one for each. The defaults are E(HTTPS_PROXY), E(HTTP_PROXY),
        E(ALL_PROXY) and E(NO_PROXY). A SOCKS proxy needs the Python package PySocks.
    type: raw
  ca_cert:
    description:
      - File or folder with the certificates to trust. If it is not set, E(BAO_CACERT) counts, then E(VAULT_CACERT), E(BAO_CAPATH),
        E(VAULT_CAPATH), E(REQUESTS_CA_BUNDLE), E(CURL_CA_BUNDLE), or else the certificates that come with Python's requests.
    type: str
    aliases: [cacert]
  validate_certs:
    description:
      - Whether to check the server's certificate. Without this check, anybody between you and the server can read all secrets.
      - Besides the option, only the variable C(ansible_hashi_vault_validate_certs) and E(OPENAI_CREDS_VAULT_VALIDATE_CERTS) set it. If it is not
        set, the opposite of E(BAO_SKIP_VERIFY) counts, then that of E(VAULT_SKIP_VERIFY). The default is V(true).
    type: bool
  namespace:
    description:
      - Namespace of both the login and the secrets engine. If it is not set, E(BAO_NAMESPACE) counts, then
        E(VAULT_NAMESPACE).
    type: str
  timeout:
    description:
      - How many seconds to wait for one answer. The default is 30.
    type: int
  retries:
    description:
      - How often at most to repeat a request that fails for a temporary reason. In a dictionary only C(total) counts.
    type: raw
  retry_action:
    description:
      - Whether to warn when a request is repeated. The default is V(warn).
    type: str
    choices: [ignore, warn]
  engine_mount_point:
    description:
      - Where the KV secrets engine, version 2, is mounted.
      - Besides the option, only the variable C(ansible_hashi_vault_engine_mount_point) and E(OPENAI_CREDS_VAULT_ENGINE_MOUNT_POINT) set it. The
        default is V(secret).
    type: str
  auth_method:
    description:
      - How to log in. V(none) is for an agent or a proxy that adds the token. The default is V(token).
    type: str
    choices: [token, approle, jwt, kubernetes, userpass, ldap, cert, none]
  mount_point:
    description:
      - Where the auth method is mounted. The default is its name.
    type: str
  token:
    description:
      - The token, with O(auth_method=token). It is not read from C(ansible.cfg). If it is not set, E(BAO_TOKEN) counts, then E(VAULT_TOKEN), then
        the file that O(token_path) and O(token_file) name.
    type: str
  token_path:
    description:
      - Folder of the file with the token. The default is the user's home.
    type: str
  token_file:
    description:
      - Name of the file with the token. The default is V(.vault-token).
    type: str
  token_validate:
    description:
      - Look the token up before it is used, with O(auth_method=token). The default is V(false).
    type: bool
  username:
    description:
      - The user, with O(auth_method=userpass) and O(auth_method=ldap). It is not read from C(ansible.cfg).
    type: str
  password:
    description:
      - The user's password. It is not read from C(ansible.cfg).
    type: str
  role_id:
    description:
      - The role's id with O(auth_method=approle). The role's name with O(auth_method=jwt), O(auth_method=kubernetes) and
        O(auth_method=cert). With O(auth_method=cert) it may be left out; then all roles are tried.
    type: str
  secret_id:
    description:
      - The secret id, with O(auth_method=approle) and a role that asks for one. It is not read from C(ansible.cfg).
    type: str
  jwt:
    description:
      - The JSON Web Token, with O(auth_method=jwt) and O(auth_method=kubernetes). With O(auth_method=kubernetes) the default is the token of
        the pod's service account.
      - Besides the option, only E(OPENAI_CREDS_VAULT_JWT) and E(ANSIBLE_HASHI_VAULT_JWT) set it.
    type: str
  cert_auth_public_key:
    description:
      - File with the client certificate in PEM format, with O(auth_method=cert). With other methods it is sent too if the server asks for
        it. If it is not set, E(BAO_CLIENT_CERT) counts, then E(VAULT_CLIENT_CERT).
    type: path
  cert_auth_private_key:
    description:
      - File with the private key of the certificate, in PEM format and not encrypted. If it is not set, E(BAO_CLIENT_KEY)
        counts, then E(VAULT_CLIENT_KEY).
    type: path
"""

    PLUGINS = r"""
options:
  url:
    vars:
      - name: ansible_hashi_vault_url
      - name: ansible_hashi_vault_addr
    env:
      - name: ANSIBLE_HASHI_VAULT_ADDR
      - name: OPENAI_CREDS_VAULT_URL
    ini:
      - section: hashi_vault_collection
        key: url
  proxies:
    vars:
      - name: ansible_hashi_vault_proxies
    env:
      - name: ANSIBLE_HASHI_VAULT_PROXIES
      - name: OPENAI_CREDS_VAULT_PROXIES
    ini:
      - section: hashi_vault_collection
        key: proxies
  ca_cert:
    vars:
      - name: ansible_hashi_vault_ca_cert
    env:
      - name: ANSIBLE_HASHI_VAULT_CA_CERT
      - name: OPENAI_CREDS_VAULT_CA_CERT
    ini:
      - section: hashi_vault_collection
        key: ca_cert
  validate_certs:
    vars:
      - name: ansible_hashi_vault_validate_certs
    env:
      - name: OPENAI_CREDS_VAULT_VALIDATE_CERTS
  namespace:
    vars:
      - name: ansible_hashi_vault_namespace
    env:
      - name: ANSIBLE_HASHI_VAULT_NAMESPACE
      - name: OPENAI_CREDS_VAULT_NAMESPACE
    ini:
      - section: hashi_vault_collection
        key: namespace
  timeout:
    vars:
      - name: ansible_hashi_vault_timeout
    env:
      - name: ANSIBLE_HASHI_VAULT_TIMEOUT
      - name: OPENAI_CREDS_VAULT_TIMEOUT
    ini:
      - section: hashi_vault_collection
        key: timeout
  retries:
    vars:
      - name: ansible_hashi_vault_retries
    env:
      - name: ANSIBLE_HASHI_VAULT_RETRIES
      - name: OPENAI_CREDS_VAULT_RETRIES
    ini:
      - section: hashi_vault_collection
        key: retries
  retry_action:
    default: warn
    vars:
      - name: ansible_hashi_vault_retry_action
    env:
      - name: ANSIBLE_HASHI_VAULT_RETRY_ACTION
      - name: OPENAI_CREDS_VAULT_RETRY_ACTION
    ini:
      - section: hashi_vault_collection
        key: retry_action
  engine_mount_point:
    default: secret
    vars:
      - name: ansible_hashi_vault_engine_mount_point
    env:
      - name: OPENAI_CREDS_VAULT_ENGINE_MOUNT_POINT
  auth_method:
    default: token
    vars:
      - name: ansible_hashi_vault_auth_method
    env:
      - name: ANSIBLE_HASHI_VAULT_AUTH_METHOD
      - name: OPENAI_CREDS_VAULT_AUTH_METHOD
    ini:
      - section: hashi_vault_collection
        key: auth_method
  mount_point:
    vars:
      - name: ansible_hashi_vault_mount_point
    env:
      - name: ANSIBLE_HASHI_VAULT_MOUNT_POINT
      - name: OPENAI_CREDS_VAULT_MOUNT_POINT
    ini:
      - section: hashi_vault_collection
        key: mount_point
  token:
    vars:
      - name: ansible_hashi_vault_token
    env:
      - name: ANSIBLE_HASHI_VAULT_TOKEN
      - name: OPENAI_CREDS_VAULT_TOKEN
  token_path:
    vars:
      - name: ansible_hashi_vault_token_path
    env:
      - name: ANSIBLE_HASHI_VAULT_TOKEN_PATH
      - name: OPENAI_CREDS_VAULT_TOKEN_PATH
    ini:
      - section: hashi_vault_collection
        key: token_path
  token_file:
    default: .vault-token
    vars:
      - name: ansible_hashi_vault_token_file
    env:
      - name: ANSIBLE_HASHI_VAULT_TOKEN_FILE
      - name: OPENAI_CREDS_VAULT_TOKEN_FILE
    ini:
      - section: hashi_vault_collection
        key: token_file
  token_validate:
    default: false
    vars:
      - name: ansible_hashi_vault_token_validate
    env:
      - name: ANSIBLE_HASHI_VAULT_TOKEN_VALIDATE
      - name: OPENAI_CREDS_VAULT_TOKEN_VALIDATE
    ini:
      - section: hashi_vault_collection
        key: token_validate
  username:
    vars:
      - name: ansible_hashi_vault_username
    env:
      - name: ANSIBLE_HASHI_VAULT_USERNAME
      - name: OPENAI_CREDS_VAULT_USERNAME
  password:
    vars:
      - name: ansible_hashi_vault_password
    env:
      - name: ANSIBLE_HASHI_VAULT_PASSWORD
      - name: OPENAI_CREDS_VAULT_PASSWORD
  role_id:
    vars:
      - name: ansible_hashi_vault_role_id
    env:
      - name: ANSIBLE_HASHI_VAULT_ROLE_ID
      - name: OPENAI_CREDS_VAULT_ROLE_ID
    ini:
      - section: hashi_vault_collection
        key: role_id
  secret_id:
    vars:
      - name: ansible_hashi_vault_secret_id
    env:
      - name: ANSIBLE_HASHI_VAULT_SECRET_ID
      - name: OPENAI_CREDS_VAULT_SECRET_ID
  jwt:
    env:
      - name: ANSIBLE_HASHI_VAULT_JWT
      - name: OPENAI_CREDS_VAULT_JWT
  cert_auth_public_key:
    vars:
      - name: ansible_hashi_vault_cert_auth_public_key
    env:
      - name: ANSIBLE_HASHI_VAULT_CERT_AUTH_PUBLIC_KEY
      - name: OPENAI_CREDS_VAULT_CERT_AUTH_PUBLIC_KEY
    ini:
      - section: hashi_vault_collection
        key: cert_auth_public_key
  cert_auth_private_key:
    vars:
      - name: ansible_hashi_vault_cert_auth_private_key
    env:
      - name: ANSIBLE_HASHI_VAULT_CERT_AUTH_PRIVATE_KEY
      - name: OPENAI_CREDS_VAULT_CERT_AUTH_PRIVATE_KEY
    ini:
      - section: hashi_vault_collection
        key: cert_auth_private_key
"""
