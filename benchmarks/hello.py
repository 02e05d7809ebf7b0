"""The least that an ASGI application can answer; `thingspeak_update.py` has uvicorn serve it."""

from __future__ import annotations

from typing import Any

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"5")],
}
_BODY = {"type": "http.response.body", "body": b"hello"}


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    await send(_START)
    await send(_BODY)
