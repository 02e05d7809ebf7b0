"""What went wrong, in ThingSpeak's words: its codes, headlines and error object. Pure."""

from __future__ import annotations

from typing import NamedTuple

from headwater.dialects.thingspeak.xml import to_xml
from headwater.errors import (
    BadRequest,
    Cancelled,
    Conflict,
    HeadwaterError,
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    NotUtf8,
    Overloaded,
    StorageError,
    TooLarge,
    TooManyRequests,
)


class Problem(NamedTuple):
    """An error as it goes out: HTTP status, ThingSpeak's code and headline."""

    status: int
    code: str
    message: str


_PROBLEMS: tuple[tuple[type[HeadwaterError], Problem], ...] = (
    (NotAuthenticated, Problem(401, "error_auth_required", "Authorization Required")),
    (NotAuthorized, Problem(401, "error_auth_required", "Authorization Required")),
    (NotFound, Problem(404, "error_resource_not_found", "Resource Not Found")),
    (Conflict, Problem(409, "error_conflict", "Conflict")),
    (TooLarge, Problem(413, "error_request_too_large", "Request Entity Too Large")),
    (TooManyRequests, Problem(429, "error_too_many_requests", "Too Many Requests")),
    (NotUtf8, Problem(422, "error_invalid_byte_sequence", "Unprocessable Entity")),
    (BadRequest, Problem(400, "error_bad_request", "Bad Request")),
    # Upstream has no word for these: say plainly that it is not the caller's fault.
    (Cancelled, Problem(503, "error_service_unavailable", "Service Unavailable")),
    (Overloaded, Problem(503, "error_service_unavailable", "Service Unavailable")),
    (StorageError, Problem(503, "error_service_unavailable", "Service Unavailable")),
)

METHOD_INVALID = Problem(405, "error_method_invalid", "Method Not Allowed")
INTERNAL = Problem(500, "error_internal", "Internal Server Error")


def problem_of(error: HeadwaterError) -> Problem:
    """How ThingSpeak calls one of our errors."""
    return next((problem for kind, problem in _PROBLEMS if isinstance(error, kind)), INTERNAL)


def render_problem_xml(problem: Problem, details: str) -> bytes:
    """The same as XML, in the shape of the documentation."""
    return to_xml("error", {"error_code": problem.code, "message": problem.message, "details": details})


def render_problem(problem: Problem, details: str) -> dict[str, object]:
    """The error object; `status` is text."""
    return {
        "status": str(problem.status),
        "error": {"error_code": problem.code, "message": problem.message, "details": details},
    }
