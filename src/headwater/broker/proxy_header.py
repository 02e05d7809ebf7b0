"""The header of the PROXY protocol, versions 1 and 2: who the client is, as a proxy tells it. Does no I/O.

After "The PROXY protocol, versions 1 & 2" (HAProxy). A proxy sends the header before anything else on a connection,
one that does not hold a header must not be served.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import NamedTuple

from headwater.errors import ProtocolError

MAX_V1_BYTES = 107
"""Line end included (section 2.1)."""
MAX_V2_BYTES = 4_096
"""Addresses take 216 bytes at most; the rest is for extensions, which are skipped."""

_V1_PREFIX = b"PROXY "
_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED_BYTES = 16
_V1_ADDRESSES = re.compile(rb"(TCP[46]) ([0-9A-Fa-f.:]{2,45}) ([0-9A-Fa-f.:]{2,45}) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})")
_LOCAL, _PROXY = 0x20, 0x21
"""Version 2 in the high half; LOCAL is the proxy's own connection, as for a health check."""
_UNSPECIFIED, _TCP4, _TCP6, _UNIX_STREAM = 0x00, 0x11, 0x21, 0x31
_TCP4_ADDRESSES = struct.Struct("!4s4sHH")
_TCP6_ADDRESSES = struct.Struct("!16s16sHH")
_UNIX_BYTES = 216


class ProxyHeaderInvalid(ProtocolError):
    """What a connection began with is no header of the PROXY protocol."""


class ProxyHeader(NamedTuple):
    """A whole header."""

    source: tuple[str, int] | None
    """The client's address and port; None when the header names none, and whoever connected is the client."""
    length_bytes: int
    """What comes after so many bytes is the client's."""


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """Read the header that a connection begins with; None while more of it has to come.

    Raises ProxyHeaderInvalid as soon as the bytes cannot become one, so a caller never holds more than
    `MAX_V2_BYTES` and what was read with them.
    """
    if not data:
        return None
    if _V1_PREFIX.startswith(data[: len(_V1_PREFIX)]):
        return _parse_v1(data)
    if _V2_SIGNATURE.startswith(data[: len(_V2_SIGNATURE)]):
        return _parse_v2(data)
    raise ProxyHeaderInvalid("the connection does not begin with a PROXY header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_V1_BYTES)
    if end < 0:
        if len(data) >= MAX_V1_BYTES:
            raise ProxyHeaderInvalid(f"a PROXY header of version 1 has at most {MAX_V1_BYTES} bytes")
        return None
    length_bytes = end + 2
    line = data[len(_V1_PREFIX) : end]
    if line == b"UNKNOWN" or line.startswith(b"UNKNOWN "):
        return ProxyHeader(None, length_bytes)
    match = _V1_ADDRESSES.fullmatch(line)
    if match is None:
        raise ProxyHeaderInvalid("the PROXY header of version 1 is malformed")
    family, *addresses, source_port, destination_port = (part.decode("ascii") for part in match.groups())
    kind = ipaddress.IPv4Address if family == "TCP4" else ipaddress.IPv6Address
    try:
        source, _ = (kind(address) for address in addresses)
    except ValueError:
        raise ProxyHeaderInvalid(f"the PROXY header of version 1 holds no {family} address") from None
    if max(int(source_port), int(destination_port)) > 65_535:
        raise ProxyHeaderInvalid("the PROXY header of version 1 holds no port")
    return ProxyHeader((_shown(source), int(source_port)), length_bytes)


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_FIXED_BYTES:
        return None
    command, family, body_bytes = struct.unpack_from("!BBH", data, len(_V2_SIGNATURE))
    length_bytes = _V2_FIXED_BYTES + body_bytes
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderInvalid("the PROXY header has an unknown version or command")
    if length_bytes > MAX_V2_BYTES:
        raise ProxyHeaderInvalid(f"a PROXY header of version 2 may have {MAX_V2_BYTES} bytes here")
    if command == _PROXY and body_bytes < _v2_address_bytes(family):
        raise ProxyHeaderInvalid("the PROXY header is too short for its addresses")
    if len(data) < length_bytes:
        return None
    return ProxyHeader(_v2_source(data, family) if command == _PROXY else None, length_bytes)


def _v2_address_bytes(family: int) -> int:
    """What addresses of this family take. Raises ProxyHeaderInvalid for one that MQTT does not run over."""
    if family == _TCP4:
        return _TCP4_ADDRESSES.size
    if family == _TCP6:
        return _TCP6_ADDRESSES.size
    if family == _UNIX_STREAM:
        return _UNIX_BYTES
    if family == _UNSPECIFIED:
        return 0
    raise ProxyHeaderInvalid("the PROXY header is for another transport than a TCP connection")


def _v2_source(data: bytes, family: int) -> tuple[str, int] | None:
    if family == _TCP4:
        packed, _, port, _ = _TCP4_ADDRESSES.unpack_from(data, _V2_FIXED_BYTES)
        return _shown(ipaddress.IPv4Address(packed)), port
    if family == _TCP6:
        packed, _, port, _ = _TCP6_ADDRESSES.unpack_from(data, _V2_FIXED_BYTES)
        return _shown(ipaddress.IPv6Address(packed)), port
    return None


def _shown(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """An IPv4 address that came as an IPv6 one is the same client's."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
