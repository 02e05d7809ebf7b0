"""HTTP requests to somewhere else: one try each, within limits that keep an account from using the server against the
network that it stands in. Knows nothing of why a request is sent.

httpcore and not a client built on it: there is no proxy from the environment, no cookie, no redirect and no unpacking
here but what this module does itself.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpcore
import httpx

from headwater import __version__
from headwater.hooks.addresses import AllowedHosts, CheckedNetwork, Resolve, SystemResolver
from headwater.hooks.turns import Turns
from headwater.services.outbound import OutboundAnswer, OutboundFailed, OutboundRequest
from headwater.services.outbound_checks import check_request, parse_url
from headwater.services.quotas import Quota
from headwater.settings import HookSettings

USER_AGENT = f"Headwater/{__version__}"
MAX_WRAPPING_BYTES = 65_536
"""What may come beside the answer itself: its head, what says where chunks begin, and what makes TLS of it."""
_REDIRECTS = (301, 302, 303, 307, 308)
_KEEPING_METHOD = (307, 308)


@dataclass(frozen=True, slots=True)
class _Received:
    status: int
    body: bytes
    content_type: str
    location: str


class HttpSender:
    """A `services.outbound.Sender`.

    Args: `resolve` finds the addresses of a host, the system's if None; `clock` gives seconds, never going back; `tls`
    says whose certificates are trusted, the system's if None.
    """

    def __init__(
        self,
        settings: HookSettings,
        *,
        resolve: Resolve | None = None,
        clock: Callable[[], float] = time.monotonic,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._tls = ssl.create_default_context() if tls is None else tls
        allowed = AllowedHosts(settings.allow_hosts, allow_private=settings.allow_private)
        resolver = SystemResolver() if resolve is None else resolve
        self._network = CheckedNetwork(allowed, resolver, settings.max_answer_bytes + MAX_WRAPPING_BYTES)
        self._turns = Turns(settings.at_once, settings.at_once_per_account, settings.max_waiting_per_account)
        self._quota = Quota(settings.per_account_per_minute, 60.0, clock)

    async def send(self, account_id: int, request: OutboundRequest) -> OutboundAnswer:
        """As `Sender.send` says. An answer is cut at `hooks.max_answer_bytes`."""
        url = check_request(request, self._settings.max_request_bytes)
        if (wait_s := self._quota.take(account_id)) > 0:
            raise OutboundFailed(
                f"this account sends more than {self._settings.per_account_per_minute} requests a minute "
                f"(hooks.per_account_per_minute); the next may go in {wait_s:.0f} s"
            )
        began_s = self._clock()
        try:
            async with asyncio.timeout(self._settings.timeout_s), self._turns.turn(account_id):
                received = await self._follow(request, url)
        except TimeoutError:
            raise OutboundFailed(
                f"{url.host} did not answer in full within {self._settings.timeout_s:g} s (hooks.timeout_s)"
            ) from None
        return OutboundAnswer(received.status, received.body, received.content_type, self._clock() - began_s)

    async def _follow(self, request: OutboundRequest, url: httpx.URL) -> _Received:
        """The answer at the end of as many redirects as may be followed."""
        for _ in range(self._settings.max_redirects):
            received = await self._try(request, url)
            if received.status not in _REDIRECTS or not received.location:
                return received
            request, url = _redirected(request, url, received)
        return await self._try(request, url)

    async def _try(self, request: OutboundRequest, url: httpx.URL) -> _Received:
        try:
            return await self._exchange(request, url)
        except httpcore.ConnectError as error:
            raise OutboundFailed(f"{url.host} cannot be reached: {_why(error)}") from None
        except httpcore.TimeoutException:
            raise OutboundFailed(f"{url.host} cannot be reached in time") from None
        except (httpcore.NetworkError, httpcore.ProtocolError):
            raise OutboundFailed(f"{url.host} broke off, or answered with something that is not HTTP") from None

    async def _exchange(self, request: OutboundRequest, url: httpx.URL) -> _Received:
        """One request on one connection, which is not used again."""
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        connection = httpcore.AsyncHTTPConnection(
            target.origin, self._tls, network_backend=self._network, http1=True, http2=False
        )
        message = httpcore.Request(
            request.method,
            target,
            headers=_wire_headers(request, url),
            content=request.body,
            extensions={"timeout": {"connect": self._settings.timeout_s}},
        )
        try:
            response = await connection.handle_async_request(message)
            try:
                return await self._receive(response, url)
            finally:
                await response.aclose()
        finally:
            await connection.aclose()

    async def _receive(self, response: httpcore.Response, url: httpx.URL) -> _Received:
        headers = {name.lower(): value for name, value in response.headers}
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            raise OutboundFailed(f"{url.host} packed its answer, though it was asked not to")
        return _Received(
            response.status,
            await _read(response, self._settings.max_answer_bytes),
            headers.get(b"content-type", b"").decode("latin-1"),
            headers.get(b"location", b"").decode("latin-1"),
        )


def _wire_headers(request: OutboundRequest, url: httpx.URL) -> list[tuple[bytes, bytes]]:
    """The headers of a checked request as they are sent; those that the caller set stand before ours."""
    headers = [(name, value.strip(" \t")) for name, value in request.headers]
    given = {name.lower() for name, _ in headers}
    ours = {"Host": url.netloc.decode("ascii"), "User-Agent": USER_AGENT, "Accept": "*/*"}
    if request.username or request.password:
        credentials = f"{request.username}:{request.password}".encode()
        ours["Authorization"] = "Basic " + base64.b64encode(credentials).decode()
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        ours["Content-Length"] = str(len(request.body))
    # One answer on one connection, and as it is: what unpacks small to large would pass the limit on its length.
    ours |= {"Accept-Encoding": "identity", "Connection": "close"}
    headers += [(name, value) for name, value in ours.items() if name.lower() not in given]
    # Host first, as RFC 9112 section 3.2 asks for.
    headers.sort(key=lambda header: header[0].lower() != "host")
    return [(name.encode("ascii"), value.encode()) for name, value in headers]


async def _read(response: httpcore.Response, most: int) -> bytes:
    """The body, or its beginning."""
    body = bytearray()
    async for piece in response.aiter_stream():
        body += piece
        if len(body) >= most:
            break
    return bytes(body[:most])


def _redirected(request: OutboundRequest, url: httpx.URL, received: _Received) -> tuple[OutboundRequest, httpx.URL]:
    """Where a redirect leads, and what is sent there. Another site gets nothing that was meant for the first: no
    password, no header of the caller's, no body."""
    try:
        target = parse_url(str(url.join(received.location).copy_with(fragment=None)))
    except (OutboundFailed, httpx.InvalidURL, ValueError):
        raise OutboundFailed(f"{url.host} redirects to something that is no URL of a web site") from None
    keeps_body = received.status in _KEEPING_METHOD
    if not keeps_body and request.method != "GET":
        headers = tuple(header for header in request.headers if header[0].lower() != "content-type")
        request = replace(request, method="GET", body=b"", headers=headers)
    if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
        if request.body:
            raise OutboundFailed(
                f"{url.host} redirects to {target.host}, which the body was not meant for: put that host into the URL"
            )
        request = replace(request, headers=(), username="", password="")
    return request, target


def _why(error: httpcore.ConnectError) -> str:
    """The reason in words: of TLS the library's own, of the rest the system's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return "no encrypted connection comes about"
        if isinstance(cause, ConnectionRefusedError):
            return "it refuses the connection"
        cause = cause.__cause__ or cause.__context__
    return "there is no connection to it"
