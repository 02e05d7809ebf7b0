"""Errors that no route has put into its own form."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from headwater import errors
from headwater.web.app import _render_unhandled


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BadRequest("m"), 400),
        (errors.NotAuthenticated("m"), 401),
        (errors.NotAuthorized("m"), 403),
        (errors.NotFound("m"), 404),
        (errors.Conflict("m"), 409),
        (errors.TooLarge("m"), 413),
        (errors.TooManyRequests("m", 3.2), 429),
        (errors.StorageError("m"), 503),
        (errors.Overloaded("m"), 503),
    ],
)
async def test_status(error: errors.HeadwaterError, status: int) -> None:
    answer = await _render_unhandled(Request({"type": "http"}), error)
    assert (answer.status_code, answer.body) == (status, b"m")
    assert answer.headers.get("Retry-After") == ("4" if status == 429 else None)
