"""The router: whose tree, who may, and what is handed on. No socket."""

from __future__ import annotations

from typing import Any

import pytest

from headwater.broker.journal import Journal, JournalLimits
from headwater.broker.records import Clocks
from headwater.broker.retained import Retained, RetainedLimits
from headwater.broker.router import Router, tree_of
from headwater.model.principal import ANONYMOUS, KEY_ONLY, Principal, PrincipalKind
from headwater.mqtt.limits import Turn
from headwater.mqtt.message import Message
from headwater.mqtt.outgoing import Outgoing
from headwater.mqtt.packets import Subscription
from headwater.mqtt.publish_properties import PublishProperties
from headwater.mqtt.publishing import Pending, PublishTarget, Refused
from headwater.mqtt.queue_budget import QueueBudget, SessionLimits
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.session import Session
from headwater.mqtt.subscribing import NotGranted
from headwater.persistence.memory import MemorySessionStore
from headwater.services.dialect import Deliver, TopicSpace
from headwater.services.promise import Promise
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
        def take(
            payload: bytes, flags: int, at_ns: int, properties: PublishProperties | None
        ) -> Pending | Refused | None:
            self.taken.append((principal, topic, payload))
            return None

        return take

    def judge_subscription(self, principal: Principal, topic_filter: str) -> NotGranted | None:
        return None if principal in self.readers else NotGranted("not a reader")

    def subscribed(self, topic_filter: str) -> None:
        self.told.append(f"+ {topic_filter}")

    def unsubscribed(self, topic_filter: str) -> None:
        self.told.append(f"- {topic_filter}")

    def first_messages(self, topic_filter: str) -> None:
        """It has none."""


class Wire:
    """A link that keeps what was sent."""

    window = 10

    def __init__(self) -> None:
        self.is_congested = False
        self.got: list[tuple[bytes, bytes, int]] = []

    def send_qos0(self, message: Message, retain: bool, subscription_ids: tuple[int, ...]) -> str | None:
        self.got.append((message.raw_topic, message.payload, 0))
        return None

    def send_outgoing(self, outgoing: Outgoing, *, dup: bool) -> str | None:
        self.got.append((outgoing.message.raw_topic, outgoing.message.payload, outgoing.qos))
        return None

    def send_pubrel(self, packet_id: int) -> None:
        raise AssertionError("nothing is acknowledged here")


class Subscriber(Session):
    """A session whose client is here, and what it got."""

    def __init__(self) -> None:
        super().__init__("somebody", "client", SessionLimits(), QueueBudget(1 << 30))
        self.wire = self.link = Wire()

    @property
    def got(self) -> list[tuple[bytes, bytes, int]]:
        return self.wire.got


class Office:
    """A router over one space."""

    def __init__(self) -> None:
        self.space = Space()
        self.refusals = Refusals()
        self.turn = Turn()
        self.changes = 0
        self.promise = Promise()
        clocks = Clocks(lambda: 100.0, lambda: 0)
        self.journal = Journal(MemorySessionStore(), JournalLimits())
        self.retained = Retained(self.journal, clocks, RetainedLimits(10, 10, 100_000, 100_000))
        self.router = Router(
            [self.space],
            self.refusals,
            self.retained,
            turn=self.turn,
            now_s=clocks.now_s,
            count_changes=lambda: self.changes,
            written=lambda: self.promise,
        )

    def publish(
        self, principal: Principal, topic: str, payload: bytes = b"x", qos: int = 0, publisher: Session | None = None
    ) -> Pending | Refused | None:
        return self.router.resolve_publish(principal, topic, publisher)(payload, qos << 1, 0, None)

    def subscribe(
        self, principal: Principal, topic_filter: str, session: Session, qos: int = 0, **options: bool
    ) -> bool:
        """Whether it was granted."""
        subscription = Subscription(topic_filter, qos, **options)
        refused = self.router.subscribe(principal, session, subscription, 0)
        assert refused is None or refused.reason_code == ReasonCode.NOT_AUTHORIZED
        return refused is None


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
        assert office.subscribe(principal, "#", subscriber, 1)
        assert office.subscribe(principal, "+/+", subscriber, 0)
    office.publish(ADA, "room/light", b"on", qos=1)
    assert ada.got == [(b"room/light", b"on", 1)]
    assert bob.got == []


@pytest.mark.parametrize(("published", "granted", "sent"), [(0, 1, 0), (1, 0, 0), (1, 1, 1), (2, 1, 1)])
def test_3_8_4_6_the_lower_qos_counts(office: Office, published: int, granted: int, sent: int) -> None:
    """[MQTT-3.8.4-6]"""
    ada = Subscriber()
    office.subscribe(ADA, "t", ada, granted)
    office.publish(ADA, "t", b"x", published)
    assert ada.got == [(b"t", b"x", sent)]


def test_a_wildcard_of_an_account_does_not_reach_into_a_dialect(office: Office) -> None:
    ada = Subscriber()
    assert office.subscribe(ADA, "#", ada, 0)
    assert office.subscribe(ADA, "+/a", ada, 0)
    assert office.space.deliver is not None
    office.space.deliver("space/a", b"x")
    assert ada.got == []
    assert office.space.told == []


def test_what_a_dialect_delivers_reaches_its_subscribers_of_every_account(office: Office) -> None:
    first, second = Subscriber(), Subscriber()
    assert office.subscribe(ADA, "space/+", first, 1)
    assert office.subscribe(DEVICE, "space/a", second, 0)
    assert office.space.deliver is not None
    office.space.deliver("space/a", b"x")
    assert first.got == [(b"space/a", b"x", 1)]
    assert second.got == [(b"space/a", b"x", 0)]


def test_a_dialect_decides_who_subscribes_and_is_told_of_first_and_last(office: Office) -> None:
    first, second, refused = Subscriber(), Subscriber(), Subscriber()
    router = office.router
    assert office.subscribe(ADA, "space/a", first, 0)
    assert office.subscribe(DEVICE, "space/a", second, 0)
    assert not office.subscribe(BOB, "space/a", refused, 0)
    assert not office.subscribe(KEY_ONLY, "space/a", refused, 0)
    router.unsubscribe(BOB, refused, "space/a")
    router.unsubscribe(ADA, first, "space/a")
    assert office.space.told == ["+ space/a"]
    router.unsubscribe(DEVICE, second, "space/a")
    router.unsubscribe(DEVICE, second, "space/a")
    assert office.space.told == ["+ space/a", "- space/a"]


def test_what_the_broker_counts_is_of_qos_0_live_as_well_as_retained(office: Office) -> None:
    """So that nothing of it waits for an administrator who is away."""

    class SysTopics(Space):
        root = "$SYS"

    space, subscriber = SysTopics(), Subscriber()
    router = Router(
        [space],
        office.refusals,
        office.retained,
        turn=office.turn,
        now_s=lambda: 0.0,
        count_changes=lambda: 0,
        written=lambda: None,
    )
    assert router.subscribe(ADA, subscriber, Subscription("$SYS/#", 1), 0) is None
    assert space.deliver is not None
    space.deliver("$SYS/x", b"1")
    assert subscriber.got == [(b"$SYS/x", b"1", 0)]


def test_whether_a_subscription_may_stay(office: Office) -> None:
    assert office.router.may_keep(ADA, "space/a")
    assert office.router.may_keep(ADA, "anything")
    office.space.readers.clear()
    assert not office.router.may_keep(ADA, "space/a")


def test_anonymous_clients_have_one_tree_beside_those_of_the_accounts(office: Office) -> None:
    ada, anonymous = Subscriber(), Subscriber()
    assert office.subscribe(ADA, "#", ada, 0)
    assert office.subscribe(ANONYMOUS, "#", anonymous, 0)
    assert not office.subscribe(ANONYMOUS, "$SYS/#", anonymous, 0)
    assert not office.subscribe(ANONYMOUS, "space/a", anonymous, 0)
    office.publish(ANONYMOUS, "room/light", b"on")
    assert (ada.got, anonymous.got) == ([], [(b"room/light", b"on", 0)])
    office.router.unsubscribe(ANONYMOUS, anonymous, "#")
    office.publish(ANONYMOUS, "room/light", b"off")
    office.publish(ADA, "room/light", b"ada's")
    assert len(anonymous.got) == 1


@pytest.mark.parametrize("principal", [DEVICE, KEY_ONLY])
def test_devices_and_keys_have_no_tree_of_their_own(office: Office, principal: Principal) -> None:
    ada = Subscriber()
    office.subscribe(ADA, "#", ada, 0)
    assert not office.subscribe(principal, "#", Subscriber(), 0)
    office.router.unsubscribe(principal, Subscriber(), "#")
    office.publish(principal, "room/light")
    assert ada.got == []
    assert office.refusals.total == 1
    refusal = office.refusals.of_device(7)
    assert (refusal is not None) == (principal is DEVICE)


@pytest.mark.parametrize("topic", ["$SYS/uptime", "$share/g/t", "$CONTROL/x", "$foo", "$"])
def test_4_7_2_dollar_topics_are_the_servers(office: Office, topic: str) -> None:
    """[MQTT-4.7.2-1]; nobody publishes to them or subscribes to them."""
    ada = Subscriber()
    if not topic.startswith("$share/"):  # that one is a shared subscription
        assert not office.subscribe(ADA, topic, ada, 0)
        assert not office.subscribe(ADA, f"{topic}/#", ada, 0)
    assert office.subscribe(ADA, "#", ada, 0)
    assert isinstance(office.publish(ADA, topic), Refused)
    assert ada.got == []
    assert office.refusals.total == 1


def test_3_8_3_no_local_keeps_a_clients_own_messages_from_it(office: Office) -> None:
    """[MQTT-3.8.3-3]: the client's, not those of others of its account."""
    own, other = Subscriber(), Subscriber()
    for subscriber in (own, other):
        assert office.subscribe(ADA, "t", subscriber, 1, no_local=True)
    office.publish(ADA, "t", qos=1, publisher=own)
    assert (own.got, len(other.got)) == ([], 1)
    assert office.subscribe(ADA, "+", own, 0)
    office.publish(ADA, "t", qos=1, publisher=own)
    assert own.got == [(b"t", b"x", 1)], "another subscription of it wants them"


def test_a_message_waits_for_the_disk_only_if_something_of_it_is_to_be_there(office: Office) -> None:
    """QoS 0 never waits; nor does what nobody gets or what only reaches those who are here."""
    ada = Subscriber()
    assert office.publish(ADA, "nobody/listens", qos=1) is None
    assert office.subscribe(ADA, "#", ada, 1)
    assert office.publish(ADA, "t", qos=1) is None

    class Recording(Subscriber):
        def send(self, *parts: Any) -> None:
            office.changes += 1

    assert office.subscribe(ADA, "stored", Recording(), 1)
    assert office.publish(ADA, "stored", qos=1) is office.promise
    assert office.publish(ADA, "stored", qos=0) is None


def test_copies_count_against_the_publishers_turn(office: Office) -> None:
    for _ in range(3):
        assert office.subscribe(ADA, "t/#", Subscriber())
    assert office.subscribe(ADA, "$share/g/t/#", Subscriber())
    office.turn.left = 10
    office.publish(ADA, "t/1")
    office.publish(ADA, "elsewhere")
    assert office.turn.left == 6


# -- shared subscriptions --------------------------------------------------------------------------------------------


def test_4_8_2_each_message_goes_to_one_member(office: Office) -> None:
    members = [Subscriber() for _ in range(3)]
    for member in members:
        assert office.subscribe(ADA, "$share/g/t", member)
    alone = Subscriber()
    assert office.subscribe(ADA, "t", alone)
    for number in range(9):
        office.publish(ADA, "t", b"%d" % number)
    assert [len(member.got) for member in members] == [3, 3, 3]
    assert len(alone.got) == 9
    everything = sorted(payload for member in members for _, payload, _ in member.got)
    assert everything == [b"%d" % number for number in range(9)]


def test_who_keeps_up_comes_before_who_is_here_before_who_is_away(office: Office) -> None:
    ready, congested, away = Subscriber(), Subscriber(), Subscriber()
    congested.wire.is_congested = True
    away.link = None
    for member in (away, congested, ready):
        assert office.subscribe(ADA, "$share/g/t", member, 1)
    for _ in range(5):
        office.publish(ADA, "t", qos=1)
    assert (len(ready.got), congested.queued, away.queued) == (5, 0, 0)
    office.router.unsubscribe(ADA, ready, "$share/g/t")
    for _ in range(5):
        office.publish(ADA, "t", qos=1)
    assert (congested.queued, away.queued) == (5, 0)
    office.router.unsubscribe(ADA, congested, "$share/g/t")
    office.publish(ADA, "t", qos=1)
    assert away.queued == 1


def test_a_dialects_messages_are_shared_too(office: Office) -> None:
    members = [Subscriber() for _ in range(2)]
    assert office.subscribe(ADA, "$share/g/space/a", members[0])
    assert office.subscribe(DEVICE, "$share/g/space/a", members[1])
    assert not office.subscribe(BOB, "$share/g/space/a", Subscriber())
    assert office.space.told == ["+ space/a"]
    assert office.space.deliver is not None
    for _ in range(4):
        office.space.deliver("space/a", b"x")
    assert [len(member.got) for member in members] == [2, 2]
    assert not office.router.may_keep(BOB, "$share/g/space/a")


# -- trees ----------------------------------------------------------------------------------------------------------


def test_the_devices_of_an_account_share_its_tree(office: Office) -> None:
    device = Principal(PrincipalKind.ACCOUNT_DEVICE, account_id=1, account_device_id=3)
    stranger = Principal(PrincipalKind.ACCOUNT_DEVICE, account_id=2, account_device_id=4)
    ada, bob = Subscriber(), Subscriber()
    assert office.subscribe(ADA, "#", ada)
    assert office.subscribe(stranger, "#", bob)
    office.publish(device, "room/light", b"on")
    assert (ada.got, bob.got) == ([(b"room/light", b"on", 0)], [])
    assert [tree_of(principal) for principal in (ADA, device, stranger)] == ["account:1", "account:1", "account:2"]
    assert [tree_of(principal) for principal in (DEVICE, KEY_ONLY, ANONYMOUS)] == [None, None, "anonymous"]


def test_subscriptions_are_counted_and_a_tree_can_be_let_go(office: Office) -> None:
    ada, bob = Subscriber(), Subscriber()
    for topic_filter in ("a", "b/#", "space/a", "$share/g/a"):
        assert office.subscribe(ADA, topic_filter, ada)
    assert office.subscribe(BOB, "a", bob)
    assert office.router.subscriptions == 5
    office.router.forget_tree("account:1")
    assert office.router.subscriptions == 5, "not while somebody is in it"
    for topic_filter in ("a", "b/#", "space/a", "$share/g/a", "$share/other/a", "never"):
        office.router.unsubscribe(ADA, ada, topic_filter)
    office.router.forget_tree("account:1")
    assert office.router.subscriptions == 1
    office.publish(BOB, "a")
    assert len(bob.got) == 1
