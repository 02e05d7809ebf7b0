from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.services.networks import is_loopback, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unknown", "unknown"),
        ("", ""),
        ("a:b", "a:b"),
        ("x" * 300, "x" * 255),
    ],
)
def test_what_one_host_can_call_its_own(address, network):
    assert network_of(address) == network


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_a_host_gains_nothing_by_changing_its_address(address, host):
    other = type(address)(int(address) >> 64 << 64 | host)
    if address.ipv4_mapped is None and other.ipv4_mapped is None:
        assert network_of(str(address)) == network_of(str(other))


@given(st.text())
def test_any_text_stands_for_something(text):
    assert len(network_of(text)) <= 255
    is_loopback(text)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_the_machine_itself(address):
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["128.0.0.1", "::2", "2001:db8::1", "::ffff:192.0.2.7", "unknown", ""])
def test_others(address):
    assert not is_loopback(address)
