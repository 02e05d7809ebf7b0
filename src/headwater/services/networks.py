"""Addresses as rate limits see them: what one host can call its own. Pure."""

from __future__ import annotations

import ipaddress

_MAX_ADDRESS_LENGTH = 255


def network_of(address: str) -> str:
    """An IPv4 address as it is; an IPv6 address as its /64, because a host may have all of that; an IPv4 address in
    IPv6 form as IPv4. Anything else stands for itself."""
    if ":" not in address:
        return address[:_MAX_ADDRESS_LENGTH]
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address[:_MAX_ADDRESS_LENGTH]
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))


def is_loopback(address: str) -> bool:
    """Whether this is the machine itself."""
    return address.startswith("127.") or address == "::1" or network_of(address).startswith("127.")
