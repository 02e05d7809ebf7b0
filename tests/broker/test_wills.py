"""Wills: at once, later, not at all, a few in each turn; by themselves and with clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from gated_store import until
from headwater.broker.wills import WILLS_PER_TURN, Wills
from headwater.errors import Overloaded
from headwater.model.principal import Grant, Principal, PrincipalKind
from headwater.mqtt.limits import COPIES_PER_TURN, Turn
from headwater.mqtt.packets import Connack, Connect, Disconnect, PropertyId, ProtocolLevel, Publish, Will
from headwater.mqtt.queue_budget import QueueBudget, SessionLimits
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.session import Session

from .house import ADA, BOB, PORCH, READER, SENSOR, House, as_account, as_device, as_lasting

Build = Callable[..., Any]
PRINCIPAL = Principal(PrincipalKind.ACCOUNT, account_id=1)


class Desk:
    """Wills, and a loop that turns when the test says so."""

    def __init__(self) -> None:
        self.published: list[str] = []
        self._soon: list[Callable[[], None]] = []
        self.bad: set[str] = set()
        """Topics of wills that cannot be published."""
        self.copies = 0
        """What each will causes."""
        self._turn = Turn()
        self.wills = Wills(self._publish, self._soon.append, self._turn)

    def _publish(self, _principal: Principal, _session: Session, will: Will) -> None:
        if will.topic in self.bad:
            raise RuntimeError("a fault")
        self.published.append(will.topic)
        self._turn.left -= self.copies

    def turn(self) -> list[str]:
        """What is published in one turn of the loop."""
        soon, self._soon[:] = self._soon[:], []
        for callback in soon:
            callback()
        published, self.published = self.published, []
        return published


def some_session() -> Session:
    return Session("account:1", "c", SessionLimits(), QueueBudget(1))


def will(topic: str) -> Will:
    return Will(topic, b"gone", 0, retain=False)


def test_many_wills_are_spread_over_turns() -> None:
    """Ten thousand clients may be cut off in one moment."""
    desk = Desk()
    for number in range(WILLS_PER_TURN * 2 + 1):
        desk.wills.publish_soon(PRINCIPAL, some_session(), will(str(number)))
    published = [desk.turn() for _ in range(4)]
    assert [len(topics) for topics in published] == [WILLS_PER_TURN, WILLS_PER_TURN, 1, 0]
    assert [*published[0], *published[1], *published[2]] == [str(number) for number in range(WILLS_PER_TURN * 2 + 1)]
    desk.wills.publish_soon(PRINCIPAL, some_session(), will("later"))
    assert desk.turn() == ["later"]


def test_wills_with_very_many_subscribers_are_spread_further() -> None:
    desk = Desk()
    desk.copies = COPIES_PER_TURN // 2 + 1
    for number in range(5):
        desk.wills.publish_soon(PRINCIPAL, some_session(), will(str(number)))
    assert [len(desk.turn()) for _ in range(4)] == [2, 2, 1, 0]


def test_a_delayed_will_waits_for_its_time() -> None:
    desk, early, late = Desk(), some_session(), some_session()
    desk.wills.publish_at(10.0, PRINCIPAL, early, will("early"))
    desk.wills.publish_at(20.0, PRINCIPAL, late, will("late"))
    assert desk.wills.sweep(9.9) == []
    assert desk.wills.sweep(10.0) == [early]
    assert desk.turn() == ["early"]
    assert desk.wills.sweep(30.0) == [late]
    assert desk.wills.sweep(40.0) == []
    assert desk.turn() == ["late"]


def test_a_delayed_will_can_be_cancelled_or_hastened() -> None:
    desk, back, ended = Desk(), some_session(), some_session()
    desk.wills.publish_at(10.0, PRINCIPAL, back, will("back"))
    desk.wills.publish_at(10.0, PRINCIPAL, ended, will("ended"))
    assert desk.wills.cancel(back)
    assert not desk.wills.cancel(back)
    desk.wills.hasten(ended)
    desk.wills.hasten(ended)
    assert desk.turn() == ["ended"]
    assert desk.wills.sweep(100.0) == []


def test_when_the_server_stops_what_is_due_goes_out_and_what_is_not_stays() -> None:
    desk = Desk()
    for number in range(WILLS_PER_TURN + 5):
        desk.wills.publish_soon(PRINCIPAL, some_session(), will(str(number)))
    desk.wills.publish_at(10.0, PRINCIPAL, some_session(), will("not due"))
    desk.wills.publish_all()
    assert len(desk.published) == WILLS_PER_TURN + 5
    assert "not due" not in desk.published


def test_one_bad_will_keeps_no_other_back(caplog: pytest.LogCaptureFixture) -> None:
    """Neither those of the same turn, nor those of later ones."""
    desk = Desk()
    desk.bad = {"1", str(WILLS_PER_TURN + 1)}
    for number in range(WILLS_PER_TURN + 3):
        desk.wills.publish_soon(PRINCIPAL, some_session(), will(str(number)))
    published = [*desk.turn(), *desk.turn()]
    assert len(published) == WILLS_PER_TURN + 1
    assert not desk.bad & set(published)
    assert caplog.text.count("a will could not be published") == 2
    desk.wills.publish_soon(PRINCIPAL, some_session(), will("1"))
    desk.wills.publish_soon(PRINCIPAL, some_session(), will("last"))
    desk.wills.publish_all()
    assert desk.published == ["last"]


# -- with clients ---------------------------------------------------------------------------------------------------


def mortal(level: int = 5, *, delay_s: int = 0, expiry_s: int = 0, qos: int = 1, **options: Any) -> Connect:
    """A client that leaves `gone` on `will/c`."""
    properties = {PropertyId.WILL_DELAY_INTERVAL: delay_s} if delay_s else {}
    last = Will("will/c", b"gone", qos, retain=False, properties=properties)
    connect = as_account(ADA, "c", will=last, level=ProtocolLevel(level), **options)
    return as_lasting(connect, level=level, expiry_s=expiry_s) if expiry_s else connect


async def heir(house: House) -> Any:
    client = await house.connect(as_account(ADA, "heir", level=ProtocolLevel.V5))
    assert await client.subscribe("will/#", 2) == 2
    return client


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("end", ["reset", "fault", "timeout"])
async def test_3_1_2_8_a_client_that_vanishes_leaves_its_will(house: House, level: int, end: str) -> None:
    """[MQTT-3.1.2-8]: however it goes, but with a goodbye."""
    listening = await heir(house)
    client = await house.connect(mortal(level, keep_alive_s=1 if end == "timeout" else 60))
    if end == "reset":
        client.reset()
    elif end == "fault":
        client.send(b"\xc1\x00")
        await client.expect_closed()
    message = await listening.message(acknowledge=True)
    assert (message.topic, message.payload, message.qos) == ("will/c", b"gone", 1)
    await house.only(listening)
    await listening.ping()
    assert listening.received == []


async def test_3_14_4_3_a_goodbye_takes_the_will_along(house: House) -> None:
    """[MQTT-3.14.4-3]; MQTT 5 may ask for it nevertheless (section 3.14.2.1)."""
    listening = await heir(house)
    for level in (4, 5):
        client = await house.connect(mortal(level))
        client.send(Disconnect())
        await client.expect_closed()
    await listening.ping()
    assert listening.received == []
    client = await house.connect(mortal())
    client.send(Disconnect(ReasonCode.DISCONNECT_WITH_WILL))
    await client.expect_closed()
    assert (await listening.message()).payload == b"gone"


async def test_3_1_3_9_a_client_that_is_back_in_time_cancels_its_will(house: House) -> None:
    """[MQTT-3.1.3-9]"""
    listening = await heir(house)
    client = await house.connect(mortal(delay_s=1, expiry_s=100))
    client.reset()
    await house.only(listening)
    client = await house.connect(mortal(delay_s=1, expiry_s=100))
    house.broker.wills.sweep(house.broker.loop.time() + 10)
    await listening.ping()
    assert listening.received == []
    client.reset()
    assert (await listening.message()).payload == b"gone"
    assert house.session("c").will is None


async def test_a_delayed_will_goes_out_when_the_session_ends(house: House) -> None:
    """Section 3.1.3.2.2: after its delay or at the end of the session, whichever comes first."""
    listening = await heir(house)
    client = await house.connect(mortal(delay_s=1_000, expiry_s=1))
    client.reset()
    assert (await listening.message()).payload == b"gone"
    client = await house.connect(mortal(delay_s=1_000, expiry_s=1_000))
    client.reset()
    await house.only(listening)
    await house.connect(as_account(ADA, "c"))  # a clean start ends the session
    assert (await listening.message()).payload == b"gone"
    client = await house.connect(mortal(delay_s=1_000))  # whose session ends with its connection
    client.reset()
    assert (await listening.message()).payload == b"gone"


async def test_taking_over_publishes_the_old_will_and_keeps_the_new_one(house: House) -> None:
    """Section 3.1.4: the older connection ends without a goodbye."""
    listening = await heir(house)
    older = await house.connect(mortal(expiry_s=100))
    newer = await house.connect(mortal(expiry_s=100))
    await older.expect_disconnect(ReasonCode.SESSION_TAKEN_OVER)
    assert (await listening.message()).payload == b"gone"
    await newer.ping()
    assert house.session("c").will is not None
    newer.reset()
    assert (await listening.message()).payload == b"gone"


async def test_rights_count_when_the_will_goes_out(house: House) -> None:
    last = Will(f"channels/{PORCH}/publish", b"field1=1", 1, retain=False)
    device = await house.connect(as_device(SENSOR, will=last))
    device.reset()
    await until(lambda: house.store.commits)
    assert await house.stored() == ["1"]
    device = await house.connect(as_device(SENSOR, will=last))
    house.put_device(SENSOR, Grant(PORCH, allow_publish=False, allow_subscribe=True))
    device.reset()
    await until(lambda: not house.broker.connections)
    await until(lambda: house.refusals.of_device(SENSOR))
    other = await house.connect(as_device(READER, will=last))
    house.access.drop_device(READER)
    await other.expect_closed()
    await house.only()
    assert await house.stored() == ["1"]
    refusal = house.refusals.of_device(SENSOR)
    assert refusal is not None
    assert "Allow Publish" in refusal.reason


async def test_a_will_stays_in_its_account(house: House) -> None:
    bob = await house.connect(as_account(BOB, "bob"))
    await bob.subscribe("#", 1)
    listening = await heir(house)
    (await house.connect(mortal())).reset()
    await listening.message()
    await bob.ping()
    assert bob.received == []


async def test_a_will_below_dollar_is_refused(house: House) -> None:
    client = await house.connect()
    client.send(as_account(ADA, "c", will=Will("$SYS/x", b"", 0, retain=False), level=ProtocolLevel.V5))
    [connack] = await client.expect_closed()
    assert isinstance(connack, Connack)
    assert connack.reason_code == ReasonCode.TOPIC_NAME_INVALID


@pytest.mark.parametrize(
    ("topic", "logged"), [("a/b/c/d", "a/b/c/d"), ("channels/11/publish/A_KEY", "channels/11/publish")]
)
async def test_a_will_without_right_is_logged_with_its_topic(
    house: House, caplog: pytest.LogCaptureFixture, topic: str, logged: str
) -> None:
    client = await house.connect(as_device(SENSOR, will=Will(topic, b"", 0, retain=False)))
    with caplog.at_level("INFO"):
        client.reset()
        await until(lambda: any("a will was refused" in record.getMessage() for record in caplog.records))
    [record] = [record for record in caplog.records if "a will was refused" in record.getMessage()]
    assert f"'topic': '{logged}'" in str(record.__dict__)
    assert "A_KEY" not in str(record.__dict__)


async def test_what_a_will_says_about_itself_is_passed_on(house: House) -> None:
    listening = await heir(house)
    properties = {PropertyId.CONTENT_TYPE: "text/plain", PropertyId.WILL_DELAY_INTERVAL: 0}
    last = Will("will/c", b"gone", 0, retain=True, properties=properties)
    (await house.connect(as_account(ADA, "c", will=last, level=ProtocolLevel.V5))).reset()
    message = await listening.message()
    assert message == Publish("will/c", b"gone", properties={PropertyId.CONTENT_TYPE: "text/plain"})
    late = await house.connect(as_account(ADA, "late"))
    await late.subscribe("will/#")
    assert (await late.message()).retain


@pytest.mark.parametrize("delay_s", [0, 1])
async def test_a_will_survives_a_crash_of_the_server(build: Build, delay_s: int) -> None:
    """The server was gone before its client was; the client may be back in time if there is a delay."""
    house: House = await build()
    await house.connect(mortal(delay_s=delay_s, expiry_s=100))
    heir_connect = as_lasting(as_account(ADA, "heir"), level=5)
    listening = await house.connect(heir_connect)
    await listening.subscribe("will/#", 1)
    kept = await house.kept_at_a_crash()
    later: House = await build(kept=kept)
    listening = await later.connect(heir_connect)
    assert (await listening.message(acknowledge=True)).payload == b"gone"
    await listening.ping()
    assert later.session("c").will is None
    once: House = await build(kept=await later.kept_at_a_crash())
    listening = await once.connect(heir_connect)
    await listening.ping()
    assert listening.received == [], "once"


async def test_a_will_that_cannot_be_stored_is_told_of_and_others_follow(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = Will(f"channels/{PORCH}/publish", b"field1=1", 1, retain=False)

    def overloaded(*_: object, **__: object) -> None:
        raise Overloaded("the disk cannot keep up")

    listening = await heir(house)
    device = await house.connect(as_device(SENSOR, will=last))
    with monkeypatch.context() as patched:
        patched.setattr(house.entries, "append", overloaded)
        device.reset()
        await until(lambda: house.refusals.of_device(SENSOR), "the will to be lost")
    refusal = house.refusals.of_device(SENSOR)
    assert refusal is not None
    assert refusal.reason == "a will was lost: the disk cannot keep up"
    (await house.connect(mortal())).reset()
    assert (await listening.message()).payload == b"gone"


async def test_a_will_whose_session_ran_out_while_the_server_was_down(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    house: House = await build()
    client = await house.connect(mortal(delay_s=50, expiry_s=50))
    heir_connect = as_lasting(as_account(ADA, "heir"), level=5)
    listening = await house.connect(heir_connect)
    await listening.subscribe("will/#", 1)
    client.reset()
    await house.only(listening)
    kept = await house.kept_at_a_crash()
    at_ns = time.time_ns() + 60 * 1_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: at_ns)
    later: House = await build(kept=kept)
    assert [entry.session.client_id for entry in later.broker.sessions] == ["heir"]
    listening = await later.connect(heir_connect)
    assert (await listening.message(acknowledge=True)).payload == b"gone"
    await listening.ping()
    await later.journal.drain()
    once: House = await build(kept=await later.kept_at_a_crash())
    listening = await once.connect(heir_connect)
    await listening.ping()
    assert listening.received == [], "once"
