# SPDX-License-Identifier: GPL-3.0-or-later
"""What the words of an error have to be like, and names that somebody may try."""

from __future__ import annotations

#: Names that no mount, role or project may have.
HOSTILE_NAMES = [
    "",
    " ",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc/passwd",
    "a\\b",
    "a\n",
    "\na",
    "a\nb",
    "a\0b",
    "a b",
    "-a",
    "a-",
    ".a",
    "a.",
    "_a",
    "a_",
    "é",
    "аdmin",  # noqa: RUF001 - its first letter is Cyrillic
    "a\u200bb",
    "1\u0661",
    "a" * 129,
    "{{ x }}",
    "%00",
    "a%2fb",
]

#: What is not even a text.
NOT_TEXTS = [None, True, 1, 1.5, [], ["a"], {}, b"a"]


def sentence(error: BaseException, option: str = "") -> str:
    """Return the text of an error, which must be one line that begins with the option's name."""
    text = str(error)
    assert text.strip(), repr(error)
    assert len(text.splitlines()) == 1, repr(text)
    assert len(text) < 1000, f"{len(text)} characters"
    assert "Traceback" not in text
    if option:
        assert text.startswith(f"{option}:"), repr(text)
    return text
