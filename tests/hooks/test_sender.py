"""Requests that leave the server, to real sockets."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headwater import __version__
from headwater.certificates import prepare_identity, server_context
from headwater.hooks.sender import HttpSender
from headwater.services.outbound import OutboundFailed, OutboundRequest
from headwater.settings import HookSettings, Settings
from web_site import Answer, Asked, answering, web_site

SECRET = "s3cret-in-the-query"


def sender(*, resolve: Callable[[str, int], Awaitable[Sequence[str]]] | None = None, **settings: Any) -> HttpSender:
    chosen = HookSettings(**{"allow_private": True, "timeout_s": 5.0} | settings)
    return HttpSender(chosen) if resolve is None else HttpSender(chosen, resolve=resolve)


def resolving(*addresses: str) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


def get(url: str, **more: Any) -> OutboundRequest:
    return OutboundRequest("GET", url, **more)


async def failure(hooks: HttpSender, request: OutboundRequest) -> str:
    """Why it failed; every reason must be fit to be shown."""
    with pytest.raises(OutboundFailed) as raised:
        await hooks.send(1, request)
    reason = str(raised.value)
    assert SECRET not in reason
    assert SECRET not in repr(raised.value.__cause__)
    return reason


async def test_a_request_arrives_as_it_was_meant_and_its_answer_comes_back() -> None:
    async with web_site(answering("201 Created", b"made", Content_Type="text/x; charset=utf-8")) as site:
        request = OutboundRequest(
            "POST",
            f"http://127.0.0.1:{site.port}/a%20b/ü?x=1&y=%26#fragment",
            (("Content-Type", "application/json"), ("X-Own", "grün")),
            b'{"a":1}',
            "ada",
            "pass:word",
        )
        answer = await sender().send(1, request)
    assert (answer.status, answer.body, answer.content_type) == (201, b"made", "text/x; charset=utf-8")
    assert 0 < answer.duration_s < 5
    asked = site.asked[0]
    assert asked.line == "POST /a%20b/%C3%BC?x=1&y=%26 HTTP/1.1"
    assert asked.body == b'{"a":1}'
    assert asked.headers == {
        "host": f"127.0.0.1:{site.port}",
        "content-type": "application/json",
        "x-own": "grün".encode().decode("latin-1"),
        "user-agent": f"Headwater/{__version__}",
        "accept": "*/*",
        "authorization": "Basic YWRhOnBhc3M6d29yZA==",
        "content-length": "7",
        "accept-encoding": "identity",
        "connection": "close",
    }


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
async def test_every_method_and_an_empty_body(method: str) -> None:
    async with web_site(answering()) as site:
        await sender().send(1, OutboundRequest(method, f"http://127.0.0.1:{site.port}"))
    assert site.asked[0].line == f"{method} / HTTP/1.1"
    assert site.asked[0].headers.get("content-length") == ("0" if method in ("POST", "PUT", "PATCH") else None)


async def test_a_host_header_of_the_callers_does_not_change_whom_is_called() -> None:
    async with web_site(answering()) as site:
        await sender().send(1, get(f"http://127.0.0.1:{site.port}/", headers=(("host", "inner.example"),)))
    assert site.asked[0].headers["host"] == "inner.example"
    reason = await failure(
        sender(allow_private=False), get(f"http://127.0.0.1:{site.port}/?{SECRET}", headers=(("Host", "example.com"),))
    )
    assert "private network" in reason


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0.0.0.0"],
)
async def test_this_machine_is_refused_however_it_is_spelt(host: str) -> None:
    async with web_site(answering()) as site:
        reason = await failure(sender(allow_private=False), get(f"http://{host}:{site.port}/?key={SECRET}"))
    assert "hooks.allow_hosts" in reason or "cannot be read" in reason
    assert site.asked == []


async def test_a_host_that_is_named_may_be_called_although_it_is_private() -> None:
    async with web_site(answering()) as site:
        by_network = sender(allow_private=False, allow_hosts=("127.0.0.0/8",))
        assert (await by_network.send(1, get(f"http://127.0.0.1:{site.port}"))).body == b"hello"
        by_name = sender(allow_private=False, allow_hosts=("lamp.local",), resolve=resolving("127.0.0.1"))
        assert (await by_name.send(1, get(f"http://Lamp.local:{site.port}"))).body == b"hello"
        await failure(by_name, get(f"http://other.local:{site.port}"))
    assert [asked.headers["host"] for asked in site.asked] == [f"127.0.0.1:{site.port}", f"lamp.local:{site.port}"]


async def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to() -> None:
    """Rebinding: a name that was public when it was looked at and is private a moment later."""
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    async with web_site(answering()) as site:
        hooks = sender(allow_private=False, resolve=resolve, timeout_s=0.3)
        # 8.8.8.8 does not answer on this port: what matters is that nothing else was tried.
        await failure(hooks, get(f"http://rebind.example:{site.port}/?{SECRET}"))
        assert asked == ["rebind.example"]
        assert "private network" in await failure(hooks, get(f"http://rebind.example:{site.port}/"))
    assert site.asked == []


async def test_of_several_addresses_only_those_that_are_allowed_are_tried() -> None:
    async with web_site(answering()) as site:
        hooks = sender(allow_private=False, allow_hosts=("127.0.0.1",), resolve=resolving("127.0.0.9", "127.0.0.1"))
        assert (await hooks.send(1, get(f"http://two.example:{site.port}"))).status == 200
        # One that refuses does not keep from the next.
        hooks = sender(resolve=resolving("127.0.0.9", "127.0.0.1"))
        assert (await hooks.send(1, get(f"http://two.example:{site.port}"))).status == 200


async def test_a_redirect_is_an_answer_where_none_are_followed() -> None:
    async with web_site(answering("302 Found", b"", Location="http://127.0.0.1:1/")) as site:
        assert (await sender().send(1, get(f"http://127.0.0.1:{site.port}"))).status == 302


async def test_a_redirect_is_checked_like_the_first_address() -> None:
    async with web_site(answering()) as inner:
        to_inner = answering("302 Found", b"", Location=f"http://localhost:{inner.port}/")
        async with web_site(to_inner) as outer:
            hooks = sender(allow_private=False, allow_hosts=("outer.example",), max_redirects=3, resolve=_local)
            reason = await failure(hooks, get(f"http://outer.example:{outer.port}/?{SECRET}"))
    assert "localhost is this machine" in reason
    assert inner.asked == []


async def _local(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def test_another_site_gets_nothing_that_was_meant_for_the_first() -> None:
    async with web_site(answering()) as second:
        redirect = answering("302 Found", b"", Location=f"http://second.example:{second.port}/there?q=1")
        async with web_site(redirect) as first:
            hooks = sender(max_redirects=1, resolve=_local)
            request = OutboundRequest(
                "POST", f"http://first.example:{first.port}", (("X-Key", SECRET),), b"secret", "ada", "password"
            )
            assert (await hooks.send(1, request)).body == b"hello"
    assert second.asked[0].line == "GET /there?q=1 HTTP/1.1"
    assert second.asked[0].body == b""
    assert not {"x-key", "authorization"} & set(second.asked[0].headers)
    assert second.asked[0].headers["host"] == f"second.example:{second.port}"


async def test_a_body_is_not_sent_on_to_another_site() -> None:
    async with web_site(answering("307 Temporary Redirect", b"", Location="http://second.example/")) as first:
        request = OutboundRequest("POST", f"http://first.example:{first.port}", (), SECRET.encode())
        assert "second.example" in await failure(sender(max_redirects=1, resolve=_local), request)


async def test_a_redirect_within_a_site_keeps_what_was_meant_for_it() -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        kind = answering("308 Permanent Redirect", b"", Location="/there") if "/here" in asked.line else answering()
        await kind(asked, writer)

    async with web_site(answer) as site:
        request = OutboundRequest("PUT", f"http://127.0.0.1:{site.port}/here", (("X-Key", "k"),), b"body", "ada", "p")
        assert (await sender(max_redirects=1).send(1, request)).status == 200
    assert (site.asked[1].line, site.asked[1].body) == ("PUT /there HTTP/1.1", b"body")
    assert {"x-key", "authorization"} < set(site.asked[1].headers)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://x/", "http://u:p@x/", "http://[::1"])
async def test_a_redirect_to_something_else_is_not_followed(location: str) -> None:
    async with web_site(answering("302 Found", b"", Location=location)) as site:
        assert "redirects to something" in await failure(
            sender(max_redirects=1), get(f"http://127.0.0.1:{site.port}/?{SECRET}")
        )


async def test_redirects_in_a_circle_end() -> None:
    async with web_site(answering("302 Found", b"", Location="/again")) as site:
        assert (await sender(max_redirects=4).send(1, get(f"http://127.0.0.1:{site.port}"))).status == 302
    assert len(site.asked) == 5


async def _never(_: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _dripping(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("answer", [_never, _dripping])
async def test_a_server_that_takes_its_time_is_given_up(answer: Answer) -> None:
    async with web_site(answer) as site:
        reason = await failure(sender(timeout_s=0.2), get(f"http://127.0.0.1:{site.port}/?{SECRET}"))
    assert reason == "127.0.0.1 did not answer in full within 0.2 s (hooks.timeout_s)"


async def test_of_an_endless_answer_only_the_beginning_is_read() -> None:
    async def endless(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with web_site(endless) as site:
        answer = await sender(max_answer_bytes=1000).send(1, get(f"http://127.0.0.1:{site.port}"))
    assert answer.body == b"x" * 1000


async def test_an_answer_that_was_packed_is_not_unpacked() -> None:
    async with web_site(answering(Content_Encoding="gzip")) as site:
        assert "packed" in await failure(sender(), get(f"http://127.0.0.1:{site.port}"))


async def test_endless_headers_are_not_read() -> None:
    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: " + b"x" * 8000 + b"\r\n")
            await writer.drain()

    async with web_site(answer) as site:
        assert "not HTTP" in await failure(sender(), get(f"http://127.0.0.1:{site.port}/?{SECRET}"))


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 200 + b"\r\nx\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
async def test_an_answer_that_is_hardly_more_than_wrapping_is_given_up(begin: bytes, more: bytes) -> None:
    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while True:
            writer.write(more * 1000)
            await writer.drain()

    async with web_site(answer) as site:
        hooks = sender(timeout_s=30.0, max_answer_bytes=1000)
        assert "wraps its answer in too much" in await failure(hooks, get(f"http://127.0.0.1:{site.port}/"))


async def test_what_is_no_http_is_told(unused_tcp_port: int) -> None:
    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ESMTP\r\n")

    async with web_site(answer) as site:
        assert "not HTTP" in await failure(sender(), get(f"http://127.0.0.1:{site.port}/?{SECRET}"))
    reason = await failure(sender(), get(f"http://127.0.0.1:{unused_tcp_port}/?{SECRET}"))
    assert reason == "127.0.0.1 cannot be reached: it refuses the connection"
    assert "cannot be found" in await failure(sender(), get(f"http://no-such-host.invalid/?{SECRET}"))


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    identity = prepare_identity(Settings(data=tmp_path), machine_names=("localhost",), now=datetime.now(UTC))
    async with web_site(answering(), tls=server_context(identity)) as site:
        reason = await failure(sender(), get(f"https://localhost:{site.port}/?{SECRET}"))
        assert "its certificate is not accepted" in reason
        trusting = ssl.create_default_context(cafile=str(identity.ca_certificate))
        hooks = HttpSender(HookSettings(allow_private=True), resolve=_local, tls=trusting)
        assert (await hooks.send(1, get(f"https://localhost:{site.port}/"))).body == b"hello"
        # The name in the URL is the one that the certificate must be for, whatever `Host` says.
        reason = await failure(hooks, get(f"https://other.example:{site.port}/", headers=(("Host", "localhost"),)))
        assert "its certificate is not accepted" in reason


async def test_a_server_that_does_not_encrypt_is_told() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reason = await failure(sender(), get(f"https://127.0.0.1:{port}/"))
    assert reason == "127.0.0.1 cannot be reached: no encrypted connection comes about"


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with web_site(answering(body=b"proxy")) as proxy, web_site(answering(body=b"site")) as site:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await sender().send(1, get(f"http://127.0.0.1:{site.port}"))).body == b"site"


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://example.com/{SECRET}",
        f"file:///etc/passwd?{SECRET}",
        f"//example.com/{SECRET}",
        f"example.com/{SECRET}",
        "http://",
        "http:///path",
        f"http://user:{SECRET}@example.com/",
        "http://user@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://example.com:port/",
        "http://exa mple.com/",
        "http://example.com/\r\nX: y",
        "http://example.com/\x00",
        "http://[::1/",
        "http://" + "a" * 5000,
        "",
    ],
)
async def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    assert "URL" in await failure(sender(resolve=_unasked), get(url))


async def _unasked(host: str, port: int) -> Sequence[str]:
    raise AssertionError("nothing may be looked up")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", f"a\r\nX-B: {SECRET}"),
        ("X-A", "a\nb"),
        ("X-A", "a\x00"),
        ("X-A\r\nX-B", "b"),
        ("X A", "b"),
        ("", "b"),
        ("X-Ä", "b"),
        ("Content-Length", "5"),
        ("transfer-encoding", "chunked"),
        ("Connection", "keep-alive"),
        ("Host", "a b"),
        ("Host", "a/b"),
        ("Host", "user@a"),
        ("X-A", SECRET * 1000),
    ],
)
async def test_headers_that_would_make_another_request_are_refused(name: str, value: str) -> None:
    assert "header" in await failure(sender(resolve=_unasked), get("http://example.com", headers=((name, value),)))


async def test_a_second_host_header_is_refused() -> None:
    request = get("http://127.0.0.1:1/", headers=(("Host", "one.example"), ("host", "other.example")))
    assert "given twice" in await failure(sender(), request)


async def test_too_much_is_refused_before_it_is_sent() -> None:
    hooks = sender(resolve=_unasked, max_request_bytes=10)
    assert "hooks.max_request_bytes" in await failure(hooks, OutboundRequest("POST", "http://x.example", (), b"x" * 11))
    assert "headers" in await failure(hooks, get("http://x.example", headers=(("X", "y"),) * 33))
    assert "method" in await failure(hooks, OutboundRequest("TRACE", "http://x.example"))


async def test_an_account_may_send_so_many_a_minute() -> None:
    now_s = 0.0
    async with web_site(answering()) as site:
        settings = HookSettings(allow_private=True, per_account_per_minute=2)
        hooks = HttpSender(settings, clock=lambda: now_s)
        request = get(f"http://127.0.0.1:{site.port}")
        for at_s in (0.0, 10.0):
            now_s = at_s
            await hooks.send(1, request)
        now_s = 20.0
        assert "in 40 s" in await failure(hooks, request)
        assert (await hooks.send(2, request)).status == 200
        now_s = 60.0
        assert (await hooks.send(1, request)).status == 200
    assert len(site.asked) == 4


async def test_requests_wait_for_their_turn_and_no_account_takes_that_of_others() -> None:
    let_go = asyncio.Event()

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if "slow" in asked.line:
            await let_go.wait()
        await answering()(asked, writer)

    async with web_site(answer) as site:
        hooks = sender(at_once=3, at_once_per_account=2, max_waiting_per_account=1)
        slow = get(f"http://127.0.0.1:{site.port}/slow")
        tasks = [asyncio.create_task(hooks.send(1, slow)) for _ in range(3)]
        async with asyncio.timeout(5):
            while site.open_now < 2:
                await asyncio.sleep(0.001)
            assert "too many" in await failure(hooks, slow)
            assert (await hooks.send(2, get(f"http://127.0.0.1:{site.port}/quick"))).status == 200
            let_go.set()
            assert [answer.status for answer in await asyncio.gather(*tasks)] == [200, 200, 200]
        assert site.most_open == 3
        assert (await hooks.send(1, slow)).status == 200


async def test_no_secret_of_a_request_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with web_site(answering()) as site:
        request = get(
            f"http://127.0.0.1:{site.port}/?{SECRET}", headers=(("X", SECRET),), username="a", password=SECRET
        )
        await sender().send(1, request)
        await failure(sender(allow_private=False), request)
    ours = [record for record in caplog.records if record.name.startswith("headwater")]
    assert not any(SECRET in record.getMessage() for record in ours)
    assert SECRET not in repr(request)
