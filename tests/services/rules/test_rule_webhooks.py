"""A webhook to a real HTTP server, which is away at first."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
from rule_house import RuleHouse

from headwater.services.outbound import OutboundAnswer, OutboundFailed, OutboundRequest
from headwater.services.rules.definitions import CallWebhook, Numeric

HEADERS = (("Content-Type", "application/json"),)


class HttpSender:
    """Sends for real, without any limits."""

    async def send(self, account_id: int, request: OutboundRequest) -> OutboundAnswer:
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                answer = await client.request(
                    request.method, request.url, headers=list(request.headers), content=request.body
                )
            except httpx.HTTPError as error:
                raise OutboundFailed(f"no answer: {type(error).__name__}") from error
        return OutboundAnswer(answer.status_code, answer.content, "", answer.elapsed.total_seconds())


@asynccontextmanager
async def receiver(port: int, bodies: list[bytes]) -> AsyncIterator[None]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        bodies.append(head.split(b"\r\n")[0] + b" " + await reader.readexactly(length))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port):
        yield


async def test_a_webhook_arrives_once_its_receiver_is_back(rules_house: RuleHouse) -> None:
    house = rules_house
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    bodies: list[bytes] = []
    is_back, tried = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        tried.set()
        await is_back.wait()

    house.rules.runner._sleep = sleep
    house.rules.runner.carriers = replace(house.outside.carriers, sender=HttpSender())
    hook = CallWebhook("POST", f"http://127.0.0.1:{port}/hook?s=%%status%%", HEADERS, '{"t":%%field1%%}')
    rule = await house.watch(Numeric(1, ">", 30.0), hook)
    sending = asyncio.ensure_future(house.send("31.5", status="a b"))
    await tried.wait()
    async with receiver(port, bodies):
        is_back.set()
        await sending
    assert bodies == [b'post /hook?s=a%20b http/1.1 {"t":31.5}']
    (run,) = await house.history(rule)
    assert (run.outcome, run.results[0].tries, run.results[0].detail) == ("done", 2, "HTTP 204")
