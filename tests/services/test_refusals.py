"""Refusals: counted by device and by channel, bounded, with the latest reason."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from headwater.services import refusals as module
from headwater.services.mqtt_sign_in import SignInFailed
from headwater.services.refusals import Refusal, Refusals


@pytest.fixture
def refusals() -> Refusals:
    ticks: Iterator[int] = count(100)
    return Refusals(clock_ns=lambda: next(ticks))


def test_nothing_was_refused_yet(refusals: Refusals) -> None:
    assert refusals.total == 0
    assert refusals.of_device(1) is None
    assert refusals.of_channel(1) is None


def test_the_latest_reason_and_the_count_are_kept(refusals: Refusals) -> None:
    refusals.note("no right", device_id=1)
    refusals.note("no number", device_id=1)
    refusals.note("no such field", device_id=2)
    assert refusals.of_device(1) == Refusal(2, "no number", 101)
    assert refusals.of_device(2) == Refusal(1, "no such field", 102)
    assert refusals.total == 3


def test_device_and_channel_are_told_both(refusals: Refusals) -> None:
    refusals.note("too often", device_id=7, channel_id=7)
    refusals.note("wrong key", channel_id=7)
    refusals.note("nobody's")
    of_device, of_channel = refusals.of_device(7), refusals.of_channel(7)
    assert of_device is not None
    assert of_channel is not None
    assert (of_device.count, of_device.reason) == (1, "too often")
    assert (of_channel.count, of_channel.reason) == (2, "wrong key")
    assert refusals.total == 3


def test_those_refused_longest_ago_are_forgotten_first(refusals: Refusals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SUBJECTS", 3)
    for device_id in (1, 2, 3, 1, 4, 5):
        refusals.note("no", device_id=device_id)
    known = [device_id for device_id in range(10) if refusals.of_device(device_id) is not None]
    assert known == [1, 4, 5]
    assert refusals.total == 6


def test_devices_of_both_kinds_are_kept_apart(refusals: Refusals) -> None:
    refusals.note("no right", account_device_id=1)
    assert refusals.of_account_device(1) == Refusal(1, "no right", 100)
    assert refusals.of_device(1) is refusals.of_channel(1) is None


def test_a_failed_sign_in_is_told_to_the_owner_of_the_client_id(refusals: Refusals) -> None:
    refusals.note_failed_sign_in(SignInFailed("wrong password", device_id=1), "192.0.2.1")
    refusals.note_failed_sign_in(SignInFailed("wrong password", account_device_id=2), "2001:db8::1")
    refusals.note_failed_sign_in(SignInFailed("no such client, key or token"), "192.0.2.2")
    assert refusals.of_device(1) == Refusal(1, "sign-in refused: wrong password (from 192.0.2.1)", 100)
    assert refusals.of_account_device(2) == Refusal(1, "sign-in refused: wrong password (from 2001:db8::1)", 101)
    assert refusals.total == 0


def test_dropped_messages_are_told_with_the_limit(refusals: Refusals) -> None:
    refusals.note_dropped("max_queued_messages", device_id=1)
    refusals.note_dropped("max_queued_messages", device_id=1, count=99)
    refusals.note_dropped("max_queued_messages")
    assert refusals.of_device(1) == Refusal(
        100, "messages for this device were dropped: limit max_queued_messages", 101
    )
    assert refusals.total == 0
