# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose certificates are trusted, as the environment says."""

from __future__ import annotations

import errno
import functools
import os
import re
import ssl
import typing as t

from ..errors import OpenAICredsError, quoted

#: The variables that name certificates to trust. All that are set count; with none, those that come with httpx do.
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: How OpenSSL names the certificates of a folder, by their hashes; it sees no others.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


def trusted_certificates() -> ssl.SSLContext:
    """Return what trusts the certificates that the environment names; raises OpenAICredsError on those it cannot use."""
    named = ((name, os.environ.get(name, "")) for name in CERTIFICATE_VARIABLES)
    return _context(tuple((name, path) for name, path in named if path))


@functools.cache
def _context(named: tuple[tuple[str, str], ...]) -> ssl.SSLContext:
    if not named:
        import httpx

        return httpx.create_ssl_context()
    context: ssl.SSLContext | None = None
    seen = set()
    for name, path in named:
        # Systems often name one file in several variables, and reading it takes longer than a call.
        if (real := os.path.realpath(path)) in seen:
            continue
        seen.add(real)
        try:
            place = _place(path)
            if context is None:
                context = ssl.create_default_context(**place)
            else:
                context.load_verify_locations(**place)
        except (OSError, ValueError) as error:
            raise OpenAICredsError(
                f"{name}: {quoted(path)} cannot be used as certificates to trust: {_reason(error)}"
            ) from None
    return t.cast(ssl.SSLContext, context)


def _place(path: str) -> dict[str, t.Any]:
    """Return a file, or one or more folders, as ssl takes them; raises OSError for folders in which OpenSSL sees nothing."""
    folders = [folder for folder in path.split(os.pathsep) if folder]
    if not all(os.path.isdir(folder) for folder in folders):
        return {"cafile": path}
    if not any(_HASHED.fullmatch(file) for folder in folders for file in os.listdir(folder)):
        raise OSError(errno.ENOENT, "it has no certificates under the names that 'openssl rehash' gives them")
    return {"capath": path}


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return "it holds no certificates in PEM format"
    return getattr(error, "strerror", None) or "it is not a path"
