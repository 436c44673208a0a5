# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenAI's refusals, with its status codes, error codes and wording."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An answer other than 200, in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def redact(value: str) -> str:
    """What a list shows of a key: OpenAI keeps its kind and its last three characters."""
    kind = "-".join(value.split("-")[:2])[:10]
    return f"{kind}...{value[-3:]}"


def no_key() -> ApiError:
    return ApiError(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth"
        " (i.e. Authorization: Bearer YOUR_KEY).",
    )


def invalid_key(value: str) -> ApiError:
    # OpenAI repeats the beginning and the end of the key it refuses; so a client that logs messages logs these.
    shown = f"{value[:8]}{'*' * max(len(value) - 12, 4)}{value[-4:]}" if len(value) > 16 else "*" * len(value)
    return ApiError(
        401,
        f"Incorrect API key provided: {shown}. You can find your API key at"
        " https://platform.openai.com/account/api-keys.",
        "invalid_api_key",
    )


def mismatched(header: str) -> ApiError:
    noun = header.rsplit("-", 1)[-1].lower()
    return ApiError(401, f"{header} header should match {noun} for API key", f"mismatched_{noun}")


def missing_scopes(scope: str) -> ApiError:
    return ApiError(
        403,
        f"You have insufficient permissions for this operation. Missing scopes: {scope}. Check that you have the"
        " correct role in your organization (Reader, Writer, Owner) and project (Member, Owner), and if you're using a"
        " restricted API key, that it has the necessary scopes.",
        "insufficient_permissions",
    )


def not_found(what: str, identifier: str) -> ApiError:
    return ApiError(404, f"No such {what}: {identifier}", "not_found")


def archived(name: str | None) -> ApiError:
    return ApiError(400, f"Project {name} is archived", "project_archived")
