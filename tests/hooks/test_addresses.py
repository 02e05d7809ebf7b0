"""Which addresses may be called."""

from __future__ import annotations

import ipaddress

import pytest

from headwater.hooks.addresses import AllowedHosts, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd12:3456::1",
        "ff02::1",
        "2001:db8::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "2002:7f00:1::1",
        "2002:c0a8:101::1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "100::1",
    ],
)
def test_an_address_of_ones_own_network_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_hosts_can_be_allowed_by_name_and_by_network() -> None:
    allowed = AllowedHosts(["lamp.local", "192.168.7.0/24", "fd00::/8"])
    assert allowed.allow("lamp.local", "10.0.0.9")
    assert allowed.allow("LAMP.local.", "10.0.0.9")
    assert allowed.allow("whatever", "192.168.7.20")
    assert allowed.allow("whatever", "::ffff:192.168.7.20")
    assert allowed.allow("whatever", "fd00::1%eth0")
    assert allowed.allow("whatever", "8.8.8.8")
    assert not allowed.allow("other.local", "10.0.0.9")
    assert not allowed.allow("x.lamp.local", "10.0.0.9")
    assert not allowed.allow("whatever", "192.168.8.20")
    assert not allowed.allow("whatever", "fe80::1%eth0")


def test_everything_can_be_allowed() -> None:
    assert AllowedHosts((), allow_private=True).allow("whatever", "127.0.0.1")
