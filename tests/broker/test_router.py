"""The router: whose tree, who may, and what is handed on. No socket."""

from __future__ import annotations

import pytest

from headwater.broker.router import Router
from headwater.model.principal import ANONYMOUS, KEY_ONLY, Principal, PrincipalKind
from headwater.mqtt.encode import render_publish
from headwater.mqtt.session import Pending, PublishTarget
from headwater.services.dialect import Deliver, TopicSpace
from headwater.services.refusals import Refusals

ADA = Principal(PrincipalKind.ACCOUNT, account_id=1)
BOB = Principal(PrincipalKind.ACCOUNT, account_id=2)
DEVICE = Principal(PrincipalKind.DEVICE, account_id=1, device_id=7)


class Space(TopicSpace):
    """Topics below `space`: anybody may publish, only those in `readers` may subscribe."""

    root = "space"

    def __init__(self) -> None:
        self.readers = {ADA, DEVICE}
        self.taken: list[tuple[Principal, str, bytes]] = []
        self.told: list[str] = []
        self.deliver: Deliver | None = None

    def connect(self, deliver: Deliver) -> None:
        self.deliver = deliver

    def resolve_publish(self, principal: Principal, topic: str) -> PublishTarget:
        def take(payload: bytes, flags: int, at_ns: int) -> Pending | None:
            self.taken.append((principal, topic, payload))
            return None

        return take

    def may_subscribe(self, principal: Principal, topic_filter: str) -> bool:
        return principal in self.readers

    def subscribed(self, topic_filter: str) -> None:
        self.told.append(f"+ {topic_filter}")

    def unsubscribed(self, topic_filter: str) -> None:
        self.told.append(f"- {topic_filter}")


class Subscriber:
    def __init__(self) -> None:
        self.got: list[tuple[bytes, bytes, int]] = []

    def deliver(self, topic: bytes, payload: bytes, qos: int, rendered_qos0: bytes) -> None:
        assert rendered_qos0 == render_publish(topic, payload, 0, 0)
        self.got.append((topic, payload, qos))


class Office:
    """A router over one space."""

    def __init__(self) -> None:
        self.space = Space()
        self.refusals = Refusals()
        self.router = Router([self.space], self.refusals)

    def publish(self, principal: Principal, topic: str, payload: bytes = b"x", qos: int = 0) -> None:
        assert self.router.resolve_publish(principal, topic)(payload, qos << 1, 0) is None


@pytest.fixture
def office() -> Office:
    return Office()


def test_a_dialect_takes_everything_below_its_root(office: Office) -> None:
    for topic in ("space", "space/a/b", "space/"):
        office.publish(BOB, topic)
    office.publish(ADA, "spaceship")
    office.publish(ADA, "/space")
    assert [topic for _, topic, _ in office.space.taken] == ["space", "space/a/b", "space/"]


def test_an_account_hears_itself_and_nobody_else(office: Office) -> None:
    ada, bob = Subscriber(), Subscriber()
    for principal, subscriber in ((ADA, ada), (BOB, bob)):
        assert office.router.subscribe(principal, "#", subscriber, 1)
        assert office.router.subscribe(principal, "+/+", subscriber, 0)
    office.publish(ADA, "room/light", b"on", qos=1)
    assert ada.got == [(b"room/light", b"on", 1)]
    assert bob.got == []


@pytest.mark.parametrize(("published", "granted", "sent"), [(0, 1, 0), (1, 0, 0), (1, 1, 1), (2, 1, 1)])
def test_3_8_4_6_the_lower_qos_counts(office: Office, published: int, granted: int, sent: int) -> None:
    """[MQTT-3.8.4-6]"""
    ada = Subscriber()
    office.router.subscribe(ADA, "t", ada, granted)
    office.publish(ADA, "t", b"x", published)
    assert ada.got == [(b"t", b"x", sent)]


def test_a_wildcard_of_an_account_does_not_reach_into_a_dialect(office: Office) -> None:
    ada = Subscriber()
    assert office.router.subscribe(ADA, "#", ada, 0)
    assert office.router.subscribe(ADA, "+/a", ada, 0)
    assert office.space.deliver is not None
    office.space.deliver("space/a", b"x")
    assert ada.got == []
    assert office.space.told == []


def test_what_a_dialect_delivers_reaches_its_subscribers_of_every_account(office: Office) -> None:
    first, second = Subscriber(), Subscriber()
    assert office.router.subscribe(ADA, "space/+", first, 1)
    assert office.router.subscribe(DEVICE, "space/a", second, 0)
    assert office.space.deliver is not None
    office.space.deliver("space/a", b"x")
    assert first.got == [(b"space/a", b"x", 1)]
    assert second.got == [(b"space/a", b"x", 0)]


def test_a_dialect_decides_who_subscribes_and_is_told_of_first_and_last(office: Office) -> None:
    first, second, refused = Subscriber(), Subscriber(), Subscriber()
    router = office.router
    assert router.subscribe(ADA, "space/a", first, 0)
    assert router.subscribe(DEVICE, "space/a", second, 0)
    assert not router.subscribe(BOB, "space/a", refused, 0)
    assert not router.subscribe(KEY_ONLY, "space/a", refused, 0)
    router.unsubscribe(BOB, "space/a", refused)
    router.unsubscribe(ADA, "space/a", first)
    assert office.space.told == ["+ space/a"]
    router.unsubscribe(DEVICE, "space/a", second)
    router.unsubscribe(DEVICE, "space/a", second)
    assert office.space.told == ["+ space/a", "- space/a"]


def test_whether_a_subscription_may_stay(office: Office) -> None:
    assert office.router.may_keep(ADA, "space/a")
    assert office.router.may_keep(ADA, "anything")
    office.space.readers.clear()
    assert not office.router.may_keep(ADA, "space/a")


def test_anonymous_clients_have_one_tree_beside_those_of_the_accounts(office: Office) -> None:
    ada, anonymous = Subscriber(), Subscriber()
    assert office.router.subscribe(ADA, "#", ada, 0)
    assert office.router.subscribe(ANONYMOUS, "#", anonymous, 0)
    assert not office.router.subscribe(ANONYMOUS, "$SYS/#", anonymous, 0)
    assert not office.router.subscribe(ANONYMOUS, "space/a", anonymous, 0)
    office.publish(ANONYMOUS, "room/light", b"on")
    assert (ada.got, anonymous.got) == ([], [(b"room/light", b"on", 0)])
    office.router.unsubscribe(ANONYMOUS, "#", anonymous)
    office.publish(ANONYMOUS, "room/light", b"off")
    office.publish(ADA, "room/light", b"ada's")
    assert len(anonymous.got) == 1


@pytest.mark.parametrize("principal", [DEVICE, KEY_ONLY])
def test_devices_and_keys_have_no_tree_of_their_own(office: Office, principal: Principal) -> None:
    ada = Subscriber()
    office.router.subscribe(ADA, "#", ada, 0)
    assert not office.router.subscribe(principal, "#", Subscriber(), 0)
    office.router.unsubscribe(principal, "#", Subscriber())
    office.publish(principal, "room/light")
    assert ada.got == []
    assert office.refusals.total == 1
    refusal = office.refusals.of_device(7)
    assert (refusal is not None) == (principal is DEVICE)


@pytest.mark.parametrize("topic", ["$SYS/uptime", "$share/g/t", "$CONTROL/x", "$foo", "$"])
def test_4_7_2_dollar_topics_are_the_servers(office: Office, topic: str) -> None:
    """[MQTT-4.7.2-1]; nobody publishes to them or subscribes to them."""
    ada = Subscriber()
    assert not office.router.subscribe(ADA, topic, ada, 0)
    assert not office.router.subscribe(ADA, f"{topic}/#", ada, 0)
    assert office.router.subscribe(ADA, "#", ada, 0)
    office.publish(ADA, topic)
    assert ada.got == []
    assert office.refusals.total == 1
