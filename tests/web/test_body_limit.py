"""The limit on request bodies, at the ASGI interface."""

from __future__ import annotations

import pytest
from starlette.types import Message, Receive, Scope, Send

from headwater.errors import TooLarge
from headwater.web.body_limit import BodyLimit


class Request:
    """An HTTP request whose body comes in the given parts, and an application that reads it all."""

    def __init__(self, parts: list[bytes], *headers: tuple[bytes, bytes]) -> None:
        self.scope: Scope = {"type": "http", "headers": list(headers)}
        self.read = b""
        self._parts = list(parts)

    async def receive(self) -> Message:
        part = self._parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(self._parts)}

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            self.read += message["body"]
            more = message["more_body"]

    async def run(self, limit: int) -> bytes:
        async def send(_: Message) -> None:
            raise AssertionError("nothing is sent here")

        await BodyLimit(self.app, limit)(self.scope, self.receive, send)
        return self.read


async def test_a_body_up_to_the_limit_passes() -> None:
    assert await Request([b"abc", b"de", b""]).run(5) == b"abcde"


async def test_one_byte_more_does_not_whatever_was_announced() -> None:
    for headers in ((), ((b"content-length", b"2"),)):
        with pytest.raises(TooLarge):
            await Request([b"abc", b"def"], *headers).run(5)


async def test_an_announced_body_is_refused_before_it_is_asked_for() -> None:
    request = Request([b"never read"], (b"content-length", b"6"))
    with pytest.raises(TooLarge):
        await request.run(5)
    assert request.read == b""
