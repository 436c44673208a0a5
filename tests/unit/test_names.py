# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, and the templates that make them."""

from __future__ import annotations

import re
import typing as t

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit.wording import HOSTILE_NAMES, NOT_TEXTS, sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.names import (
    base36,
    check_name,
    check_openai_id,
    check_template,
    random_text,
    render_template,
)

#: The contract's own expression, written down once more.
VALID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?")
NAMES = st.from_regex(VALID, fullmatch=True)
GO = ["{{.RoleName}}", "{{.RandomSuffix}}", "{{.ProjectName}}"]
JINJA = ["{role_name}", "{random_suffix}", "{project_name}"]


@given(st.one_of(NAMES, st.text(), st.text("aZ09_.-/\n\0é", max_size=140)))
@example("a" * 128)
@example("a" * 129)
@example("a" * 127 + ".")
@example("a\n")
def test_a_name_is_what_the_contract_says(name: str) -> None:
    if VALID.fullmatch(name):
        assert check_name(name, "name") == name
        return
    with pytest.raises(OpenAICredsError) as caught:
        check_name(name, "name")
    sentence(caught.value, "name")


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, *NOT_TEXTS], ids=lambda name: ascii(name)[:24])
@pytest.mark.parametrize("check", [check_name, check_openai_id])
def test_hostile_names(check: t.Callable[[t.Any, str], str], name: t.Any) -> None:
    # OpenAI's ids may end in a dash, and that is all they may more.
    if check is check_openai_id and name in ("a-", "a_"):
        return
    with pytest.raises(OpenAICredsError) as caught:
        check(name, "some_option")
    sentence(caught.value, "some_option")


def test_a_message_does_not_repeat_a_whole_book() -> None:
    for check in (check_name, check_openai_id):
        with pytest.raises(OpenAICredsError) as caught:
            check("x/" * 50_000, "name")
        sentence(caught.value, "name")


def refused(template: str, role: str = "my-role", project: str = "my-project") -> str:
    with pytest.raises(OpenAICredsError) as caught:
        check_template(template, "service_account_name_template", role, project)
    return sentence(caught.value, "service_account_name_template")


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("vault-{{.RoleName}}-{{.RandomSuffix}}", r"vault-my-role-[a-z0-9]{8}"),
        ("vault-{role_name}-{random_suffix}", r"vault-my-role-[a-z0-9]{8}"),
        ("{{ .ProjectName }}.{{.RandomSuffix}}", r"my-project\.[a-z0-9]{8}"),
        ("{project_name}_{{.RandomSuffix}}", r"my-project_[a-z0-9]{8}"),
        ("{{.RandomSuffix}}", r"[a-z0-9]{8}"),
        ("{random_suffix}{{.RandomSuffix}}", r"[a-z0-9]{16}"),
    ],
)
def test_both_spellings(template: str, wanted: str) -> None:
    assert check_template(template, "service_account_name_template", "my-role", "my-project") == template
    assert re.fullmatch(wanted, render_template(template, "my-role", "my-project"))


@pytest.mark.parametrize(
    "template", ["x", "{{.RoleName}}", "{role_name}-{project_name}", "", "{random_suffix", "RandomSuffix"]
)
def test_without_a_suffix_names_would_come_twice(template: str) -> None:
    refused(template)


@pytest.mark.parametrize(
    "template",
    [
        "{{.Nonsense}}-{random_suffix}",
        "{nonsense}-{random_suffix}",
        "{}-{random_suffix}",
        "{{.}}-{random_suffix}",
        "{{.randomsuffix}}",
        "{RandomSuffix}",
        "{{.role_name}}-{random_suffix}",
        "{{\n.Bad\n}}-{random_suffix}",
    ],
)
def test_unknown_placeholders(template: str) -> None:
    refused(template)


@pytest.mark.parametrize(
    "template",
    [
        "-{random_suffix}",
        "{random_suffix}.",
        "a b{random_suffix}",
        "a/{random_suffix}",
        "é{random_suffix}",
        "{random_suffix}\n",
        "x" * 121 + "{random_suffix}",
        "{{role_name}}-{random_suffix}",
        "{{RandomSuffix}}",
        "{random_suffix!r}",
        "{random_suffix[0]}",
        "{{{.RandomSuffix}}}",
        "%s{random_suffix}",
        "a\x00{random_suffix}",
    ],
)
def test_templates_that_give_names_which_are_none(template: str) -> None:
    refused(template)


def test_the_length_counts_with_the_role_in_it() -> None:
    template = "{role_name}-{random_suffix}"
    check_template(template, "t", "r" * 119, "p")
    refused(template, role="r" * 120)
    refused("{project_name}-{random_suffix}", project="p" * 128)


PIECES = st.lists(st.one_of(st.sampled_from(GO + JINJA), st.text("aZ9-_. {}", max_size=4)), max_size=8)


@given(PIECES, NAMES, NAMES)
def test_an_accepted_template_always_gives_valid_names(pieces: list[str], role: str, project: str) -> None:
    template = "".join(pieces)
    try:
        check_template(template, "t", role, project)
    except OpenAICredsError as error:
        sentence(error, "t")
        return
    names = {render_template(template, role, project) for _unused in range(5)}
    assert len(names) == 5
    assert all(VALID.fullmatch(name) for name in names)


def test_no_name_comes_twice() -> None:
    template = "vault-{role_name}-{random_suffix}"
    assert len({render_template(template, "r", "p") for _unused in range(20_000)}) == 20_000


def test_a_role_called_like_a_placeholder_is_not_replaced_again() -> None:
    """What is put in is not looked at for placeholders."""
    assert render_template("{role_name}{random_suffix}", "{random_suffix}", "p").startswith("{random_suffix}")


@given(st.lists(st.integers(0, 10**9), min_size=2))
def test_base36_sorts_like_numbers(numbers: list[int]) -> None:
    texts = [base36(number, 6) for number in numbers]
    assert [int(text, 36) for text in texts] == numbers
    assert sorted(texts) == [base36(number, 6) for number in sorted(numbers)]


def test_random_text() -> None:
    assert re.fullmatch("[a-z0-9]{500}", random_text(500))
    assert len(set(random_text(2000))) == 36
