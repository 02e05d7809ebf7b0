"""Errors as people meet them: a status, a title and what to do. The console's edge for `HeadwaterError`."""

from __future__ import annotations

import math
from typing import NamedTuple

from headwater.errors import (
    BadRequest,
    Cancelled,
    Conflict,
    HeadwaterError,
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    Overloaded,
    StorageError,
    TooLarge,
    TooManyRequests,
)


class Problem(NamedTuple):
    """What an error page says."""

    status: int
    title: str
    detail: str


_KINDS: tuple[tuple[type[HeadwaterError], int, str], ...] = (
    (TooManyRequests, 429, "Too many attempts"),
    (TooLarge, 413, "That is too large"),
    (Conflict, 409, "That is taken"),
    (NotFound, 404, "There is nothing here"),
    (NotAuthorized, 403, "That is not allowed"),
    (NotAuthenticated, 401, "Please sign in"),
    (BadRequest, 400, "That did not work"),
    (Cancelled, 503, "That took too long"),
    (Overloaded, 503, "Busy for a moment"),
    (StorageError, 503, "The store cannot answer"),
)
"""Narrow kinds before wide ones."""

METHOD_NOT_ALLOWED = Problem(405, "That is not allowed", "This address does not take requests of that kind.")
UNKNOWN_PAGE = Problem(404, "There is nothing here", "The address may be mistyped, or what was here has been deleted.")


def problem_of(error: HeadwaterError) -> Problem:
    """Status and words for an error."""
    for kind, status, title in _KINDS:
        if isinstance(error, kind):
            return Problem(status, title, sentence_of(str(error)))
    return Problem(500, "Something went wrong", sentence_of(str(error)))


def headers_of(error: HeadwaterError) -> dict[str, str]:
    """Headers that belong to an error's answer."""
    if isinstance(error, TooManyRequests):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    return {}


def sentence_of(message: str) -> str:
    """An error text as a sentence: capital first letter, full stop."""
    message = message.strip()
    if not message:
        return ""
    return message[0].upper() + message[1:] + ("" if message[-1] in ".!?" else ".")


def waiting_time(seconds: float) -> str:
    """How long to wait, in words."""
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} seconds"
    return f"{math.ceil(seconds / 60)} minutes"
