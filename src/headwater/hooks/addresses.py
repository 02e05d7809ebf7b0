"""Which addresses the server may be made to call, and connections to those alone.

The check is on the address that is connected to: a name is resolved once, what it resolves to is checked, and the
connection goes to that very address. So it does not matter how a host is spelt (`0x7f.1`, `2130706433`), nor whether
its name means something else a moment later. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeAlias

import httpcore

from headwater.hooks.aside import Aside
from headwater.hooks.streams import BoundedStream
from headwater.services.outbound import OutboundFailed, OutboundRefused

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Takes host and port; gives the addresses in the order in which they should be tried. Raises OSError."""

MAX_TRIED_ADDRESSES = 4
RESOLVED_AT_ONCE = 64
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_TEREDO = ipaddress.IPv6Network("2001::/32")


def is_public(address: IpAddress) -> bool:
    """Whether this belongs to the open internet: not to this machine, a private network, a group of machines or
    nobody. What carries an IPv4 address inside is judged by that."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address.sixtofour is not None:
            return is_public(address.sixtofour)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        if address in _TEREDO or address.is_site_local:
            return False
    return address.is_global and not (
        address.is_multicast
        or address.is_reserved
        or address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
    )


class AllowedHosts:
    """What may be called although it is private: host names, and networks of addresses, as settings hold them."""

    def __init__(self, hosts: Iterable[str], *, allow_private: bool = False) -> None:
        self._allow_private = allow_private
        self._names: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for host in hosts:
            try:
                self._networks.append(ipaddress.ip_network(host))
            except ValueError:
                self._names.add(host)

    def allow(self, host: str, address: str) -> bool:
        """Whether this host may be called at this address of its own."""
        if self._allow_private or host.lower().rstrip(".") in self._names:
            return True
        parsed = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(parsed, "ipv4_mapped", None)
        return is_public(parsed) or any((mapped or parsed) in network for network in self._networks)


class SystemResolver:
    """A `Resolve` that asks the system, aside: a name server that is silent may take half a minute."""

    def __init__(self) -> None:
        self._aside = Aside(RESOLVED_AT_ONCE, "headwater-resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        found = await self._aside.run(partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Opens TCP connections for httpcore, to addresses that are allowed. Of each, `max_bytes` may be read."""

    def __init__(self, allowed: AllowedHosts, resolve: Resolve, max_bytes: int) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._max_bytes = max_bytes
        self._plain = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises OutboundFailed for a host that may not be called, or has no address."""
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):  # a label that is too long is a UnicodeError
            raise OutboundFailed(f"{host} cannot be found: check the host name in the URL") from None
        allowed = [address for address in addresses if self._allowed.allow(host, address)]
        if not allowed:
            raise OutboundRefused(
                f"{host} is this machine or in a private network, which may not be called; "
                "the operator can allow it with the setting hooks.allow_hosts"
            )
        stream = await self._connect(allowed[:MAX_TRIED_ADDRESSES], port, timeout, local_address, socket_options)
        return BoundedStream(stream, host, self._max_bytes)

    async def _connect(
        self,
        tried: Sequence[str],
        port: int,
        timeout: float | None,  # noqa: ASYNC109
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.AsyncNetworkStream:
        """To the first of these addresses that takes the connection."""
        # No address may use up the time of those after it: IPv6 often leads nowhere.
        each_s = None if timeout is None else timeout / len(tried)
        for address in tried[:-1]:
            try:
                return await self._plain.connect_tcp(address, port, each_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._plain.connect_tcp(tried[-1], port, each_s, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's interface
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise OutboundRefused("sockets of this machine may not be called")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
