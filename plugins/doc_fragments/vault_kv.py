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
      - Address of HashiCorp Vault or OpenBao. This option and all that follow are for O(store=vault_kv).
      - The address may end in C(/v1) or C(/ui). A Unix socket is refused.
      - The options have the names and sources of C(community.hashi_vault), whose section in C(ansible.cfg) is C([hashi_vault_collection]).
        Each can also come from an environment variable of this collection, which comes before those of the other collection. AWX credential
        types can set these, but no variables that begin with C(ANSIBLE_).
      - Also the variable C(ansible_hashi_vault_url) or C(ansible_hashi_vault_addr), E(OPENAI_CREDS_VAULT_URL),
        E(ANSIBLE_HASHI_VAULT_ADDR), or C(url) in C(ansible.cfg).
        After these E(BAO_ADDR), then E(VAULT_ADDR).
    type: str
  proxies:
    description:
      - The proxy for C(http) and C(https), or a dictionary with one for each. The defaults are E(HTTPS_PROXY), E(HTTP_PROXY), E(ALL_PROXY)
        and E(NO_PROXY). A SOCKS proxy needs the Python package PySocks.
      - Also the variable C(ansible_hashi_vault_proxies), E(OPENAI_CREDS_VAULT_PROXIES),
        E(ANSIBLE_HASHI_VAULT_PROXIES), or C(proxies) in C(ansible.cfg).
    type: raw
  ca_cert:
    description:
      - File or folder with the certificates to trust. The default is E(REQUESTS_CA_BUNDLE), then E(CURL_CA_BUNDLE), or else the certificates
        that come with Python's requests.
      - Also the variable C(ansible_hashi_vault_ca_cert), E(OPENAI_CREDS_VAULT_CA_CERT),
        E(ANSIBLE_HASHI_VAULT_CA_CERT), or C(ca_cert) in C(ansible.cfg).
        After these E(BAO_CACERT), then E(VAULT_CACERT), then E(BAO_CAPATH), then E(VAULT_CAPATH).
    type: str
    aliases: [cacert]
  validate_certs:
    description:
      - Whether to check the server's certificate. Without this check, anybody between you and the server can read all secrets.
      - Also the variable C(ansible_hashi_vault_validate_certs) or E(OPENAI_CREDS_VAULT_VALIDATE_CERTS).
        After these the opposite of E(BAO_SKIP_VERIFY), then of E(VAULT_SKIP_VERIFY).
        The default is V(true).
    type: bool
  namespace:
    description:
      - Namespace of both the login and the secrets engine.
      - Also the variable C(ansible_hashi_vault_namespace), E(OPENAI_CREDS_VAULT_NAMESPACE),
        E(ANSIBLE_HASHI_VAULT_NAMESPACE), or C(namespace) in C(ansible.cfg).
        After these E(BAO_NAMESPACE), then E(VAULT_NAMESPACE).
    type: str
  timeout:
    description:
      - How many seconds to wait for one answer.
      - Also the variable C(ansible_hashi_vault_timeout), E(OPENAI_CREDS_VAULT_TIMEOUT),
        E(ANSIBLE_HASHI_VAULT_TIMEOUT), or C(timeout) in C(ansible.cfg). The default is 30.
    type: int
  retries:
    description:
      - How often at most to repeat a request that fails for a temporary reason. In a dictionary only C(total) counts.
      - Also the variable C(ansible_hashi_vault_retries), E(OPENAI_CREDS_VAULT_RETRIES),
        E(ANSIBLE_HASHI_VAULT_RETRIES), or C(retries) in C(ansible.cfg).
    type: raw
  retry_action:
    description:
      - Whether to warn when a request is repeated.
      - Also the variable C(ansible_hashi_vault_retry_action), E(OPENAI_CREDS_VAULT_RETRY_ACTION),
        E(ANSIBLE_HASHI_VAULT_RETRY_ACTION), or C(retry_action) in C(ansible.cfg).
        The default is V(warn).
    type: str
    choices: [ignore, warn]
  engine_mount_point:
    description:
      - Where the KV secrets engine, version 2, is mounted.
      - Also the variable C(ansible_hashi_vault_engine_mount_point) or E(OPENAI_CREDS_VAULT_ENGINE_MOUNT_POINT). The default is V(secret).
    type: str
  auth_method:
    description:
      - How to log in. V(none) is for an agent or a proxy that adds the token.
      - Also the variable C(ansible_hashi_vault_auth_method), E(OPENAI_CREDS_VAULT_AUTH_METHOD),
        E(ANSIBLE_HASHI_VAULT_AUTH_METHOD), or C(auth_method) in C(ansible.cfg).
        The default is V(token).
    type: str
    choices: [token, approle, jwt, kubernetes, userpass, ldap, cert, none]
  mount_point:
    description:
      - Where the auth method is mounted. The default is its name.
      - Also the variable C(ansible_hashi_vault_mount_point), E(OPENAI_CREDS_VAULT_MOUNT_POINT),
        E(ANSIBLE_HASHI_VAULT_MOUNT_POINT), or C(mount_point) in C(ansible.cfg).
    type: str
  token:
    description:
      - The token, with O(auth_method=token).
      - Also the variable C(ansible_hashi_vault_token), E(OPENAI_CREDS_VAULT_TOKEN)
        or E(ANSIBLE_HASHI_VAULT_TOKEN). After these E(BAO_TOKEN), then E(VAULT_TOKEN),
        then the file that O(token_path) and O(token_file) name.
    type: str
  token_path:
    description:
      - Folder of the file with the token.
      - Also the variable C(ansible_hashi_vault_token_path), E(OPENAI_CREDS_VAULT_TOKEN_PATH),
        E(ANSIBLE_HASHI_VAULT_TOKEN_PATH), or C(token_path) in C(ansible.cfg).
        The default is the user's home.
    type: str
  token_file:
    description:
      - Name of the file with the token.
      - Also the variable C(ansible_hashi_vault_token_file), E(OPENAI_CREDS_VAULT_TOKEN_FILE),
        E(ANSIBLE_HASHI_VAULT_TOKEN_FILE), or C(token_file) in C(ansible.cfg).
        The default is V(.vault-token).
    type: str
  token_validate:
    description:
      - Look the token up before it is used, with O(auth_method=token).
      - Also the variable C(ansible_hashi_vault_token_validate), E(OPENAI_CREDS_VAULT_TOKEN_VALIDATE),
        E(ANSIBLE_HASHI_VAULT_TOKEN_VALIDATE), or C(token_validate) in C(ansible.cfg).
        The default is V(false).
    type: bool
  username:
    description:
      - The user, with O(auth_method=userpass) and O(auth_method=ldap).
      - Also the variable C(ansible_hashi_vault_username), E(OPENAI_CREDS_VAULT_USERNAME) or E(ANSIBLE_HASHI_VAULT_USERNAME).
    type: str
  password:
    description:
      - The user's password.
      - Also the variable C(ansible_hashi_vault_password), E(OPENAI_CREDS_VAULT_PASSWORD) or E(ANSIBLE_HASHI_VAULT_PASSWORD).
    type: str
  role_id:
    description:
      - The role's id with O(auth_method=approle). The role's name with O(auth_method=jwt), O(auth_method=kubernetes) and
        O(auth_method=cert). With O(auth_method=cert) it may be left out; then all roles are tried.
      - Also the variable C(ansible_hashi_vault_role_id), E(OPENAI_CREDS_VAULT_ROLE_ID),
        E(ANSIBLE_HASHI_VAULT_ROLE_ID), or C(role_id) in C(ansible.cfg).
    type: str
  secret_id:
    description:
      - The secret id, with O(auth_method=approle) and a role that asks for one.
      - Also the variable C(ansible_hashi_vault_secret_id), E(OPENAI_CREDS_VAULT_SECRET_ID) or E(ANSIBLE_HASHI_VAULT_SECRET_ID).
    type: str
  jwt:
    description:
      - The JSON Web Token, with O(auth_method=jwt) and O(auth_method=kubernetes). With O(auth_method=kubernetes) the default is the token of
        the pod's service account.
      - Also E(OPENAI_CREDS_VAULT_JWT) or E(ANSIBLE_HASHI_VAULT_JWT).
    type: str
  cert_auth_public_key:
    description:
      - File with the client certificate in PEM format, with O(auth_method=cert). With other methods it is sent too if the server asks for it.
      - Also the variable C(ansible_hashi_vault_cert_auth_public_key), E(OPENAI_CREDS_VAULT_CERT_AUTH_PUBLIC_KEY),
        E(ANSIBLE_HASHI_VAULT_CERT_AUTH_PUBLIC_KEY),
        or C(cert_auth_public_key) in C(ansible.cfg). After these E(BAO_CLIENT_CERT), then E(VAULT_CLIENT_CERT).
    type: path
  cert_auth_private_key:
    description:
      - File with the private key of the certificate, in PEM format and not encrypted.
      - Also the variable C(ansible_hashi_vault_cert_auth_private_key), E(OPENAI_CREDS_VAULT_CERT_AUTH_PRIVATE_KEY),
        E(ANSIBLE_HASHI_VAULT_CERT_AUTH_PRIVATE_KEY),
        or C(cert_auth_private_key) in C(ansible.cfg). After these E(BAO_CLIENT_KEY), then E(VAULT_CLIENT_KEY).
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
