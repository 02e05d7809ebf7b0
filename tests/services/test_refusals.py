"""Refusals: counted by device and by channel, bounded, with the last few reasons."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from headwater.model.principal import Principal, PrincipalKind
from headwater.mqtt.publishing import Refused
from headwater.services import refusals as module
from headwater.services.mqtt_sign_in import SignInFailed
from headwater.services.refusals import Refusal, RefusalLog, Refusals


@pytest.fixture
def refusals() -> Refusals:
    ticks: Iterator[int] = count(100)
    return Refusals(clock_ns=lambda: next(ticks))


def test_nothing_was_refused_yet(refusals: Refusals) -> None:
    assert refusals.total == 0
    assert refusals.of_device(1) is None
    assert refusals.of_channel(1) is None


def of_device(refusals: Refusals, id_: int) -> RefusalLog:
    refused = refusals.of_device(id_)
    assert refused is not None
    return refused


def test_the_last_few_reasons_are_kept_newest_first(refusals: Refusals) -> None:
    for reason in ("no right", "no number", "no number", "no right"):
        refusals.note(reason, device_id=1)
    refusals.note("no such field", device_id=2)
    assert of_device(refusals, 1).reasons == [Refusal(2, "no right", 103), Refusal(2, "no number", 102)]
    assert (of_device(refusals, 1).reason, of_device(refusals, 1).count) == ("no right", 4)
    assert of_device(refusals, 2).reasons == [Refusal(1, "no such field", 104)]
    assert refusals.total == 5


def test_memory_is_bounded_whatever_the_reasons_are(refusals: Refusals) -> None:
    for number in range(100):
        refusals.note(f"no right to topic {number} " + "x" * 60_000, device_id=1)
    refused = of_device(refusals, 1)
    assert refused.count == 100
    assert [refusal.reason.split()[4] for refusal in refused.reasons] == ["99", "98", "97", "96", "95"]
    assert max(len(refusal.reason) for refusal in refused.reasons) == module.MAX_REASON_LENGTH
    assert refused.reason.endswith("x…")


def test_device_and_channel_are_told_both(refusals: Refusals) -> None:
    refusals.note("too often", device_id=7, channel_id=7)
    refusals.note("wrong key", channel_id=7)
    refusals.note("nobody's")
    of_channel = refusals.of_channel(7)
    assert of_channel is not None
    assert (of_device(refusals, 7).count, of_device(refusals, 7).reason) == (1, "too often")
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
    refused = refusals.of_account_device(1)
    assert refused is not None
    assert refused.reasons == [Refusal(1, "no right", 100)]
    assert refusals.of_device(1) is refusals.of_channel(1) is None


def test_a_failed_sign_in_is_told_to_the_owner_of_the_client_id(refusals: Refusals) -> None:
    refusals.note_failed_sign_in(SignInFailed("wrong password", device_id=1), "192.0.2.1")
    refusals.note_failed_sign_in(SignInFailed("wrong password", account_device_id=2), "2001:db8::1")
    refusals.note_failed_sign_in(SignInFailed("no such client, key or token"), "192.0.2.2")
    account_device = refusals.of_account_device(2)
    assert account_device is not None
    assert of_device(refusals, 1).reason == "sign-in refused: wrong password (from 192.0.2.1)"
    assert account_device.reason == "sign-in refused: wrong password (from 2001:db8::1)"
    assert refusals.total == 0


def test_failed_sign_ins_take_no_other_reason_s_place(refusals: Refusals) -> None:
    for number in range(module.MAX_REASONS):
        refusals.note(f"reason {number}", device_id=1)
    for host in range(50):
        refusals.note_failed_sign_in(SignInFailed("wrong password", device_id=1), f"192.0.2.{host}")
    refused = of_device(refusals, 1)
    failed, *others = refused.reasons
    assert failed == Refusal(50, "sign-ins refused, the last one: wrong password (from 192.0.2.49)", 154)
    assert [other.reason for other in others] == [f"reason {number}" for number in (4, 3, 2, 1, 0)]
    assert refused.count == 55
    for number in range(5, 15):
        refusals.note(f"reason {number}", device_id=1)
    reasons = of_device(refusals, 1).reasons
    assert [reason.reason for reason in reasons[:-1]] == [f"reason {number}" for number in (14, 13, 12, 11, 10)]
    assert reasons[-1] == failed, "nor does it lose its own"


def test_dropped_messages_are_told_with_the_limit(refusals: Refusals) -> None:
    refusals.note_dropped("max_queued_messages", device_id=1)
    refusals.note_dropped("max_queued_messages", device_id=1, count=99)
    refusals.note_dropped("max_queued_messages")
    (refusal,) = of_device(refusals, 1).reasons
    assert refusal == Refusal(100, "messages for this device were dropped: limit max_queued_messages", 101)
    assert refusals.total == 0


def test_only_the_owner_reads_the_topic(refusals: Refusals) -> None:
    device = Principal(PrincipalKind.DEVICE, account_id=1, device_id=7)
    assert refusals.refusing(device, "no right", topic="a/b")(b"x", 0, 0, None) == Refused("no right")
    assert of_device(refusals, 7).reason == "no right (topic a/b)"


def test_a_target_that_refuses_counts_what_it_is_given(refusals: Refusals) -> None:
    device = Principal(PrincipalKind.DEVICE, account_id=1, device_id=7)
    target = refusals.refusing(device, "no right", channel_id=11)
    assert refusals.total == 0
    for _ in range(2):
        assert target(b"x", 0, 0, None) == Refused("no right")
    for refusal in (refusals.of_device(7), refusals.of_channel(11)):
        assert refusal is not None
        assert (refusal.count, refusal.reason) == (2, "no right")
