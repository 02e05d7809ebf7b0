"""A client's session: what the server keeps for it from one network connection to the next (5.0 section 4.1).

Subscriptions, QoS 1 and 2 messages that are owed to the client, and QoS 2 messages of the client that it has not
released. Knows no socket and no disk: messages leave through a `Link`, and what must survive a restart is told to a
`SessionRecord`, which only persistent sessions have.

Strategy: a message gets its packet identifier when it is queued, not when it is sent. So one record on disk says all,
a message that was sent twice around a crash has the same identifier both times, and QoS 2 stays exactly once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from headwater.mqtt.message import Message
from headwater.mqtt.outgoing import OUTGOING_BYTES, Link, Outgoing, OutgoingState, SessionRecord
from headwater.mqtt.packets import PacketType, Subscription, Will
from headwater.mqtt.publishing import Pending
from headwater.mqtt.queue_budget import QueueBudget, SessionLimits
from headwater.mqtt.reception import Reception
from headwater.mqtt.topic_tree import Grant, SharedGroup

RetainedMessages = Callable[[], Iterator[Message | None]]

MAX_PACKET_ID = 65_535


class Session:
    """The state of one client; call everything from one thread."""

    __slots__ = (
        "_again",
        "_budget",
        "_in_flight",
        "_limits",
        "_next_packet_id",
        "_outgoing",
        "_queued_bytes",
        "_unsent",
        "client_id",
        "dropped",
        "expiry_s",
        "link",
        "number",
        "on_drop",
        "owner",
        "receiving",
        "record",
        "retained",
        "subscriptions",
        "unreleased",
        "will",
    )

    def __init__(self, owner: str, client_id: str, limits: SessionLimits, budget: QueueBudget) -> None:
        self.owner = owner
        """The principal it belongs to (`Principal.key`); with the client id, what makes it this session."""
        self.client_id = client_id
        self._limits = limits
        self._budget = budget
        self.number = 0
        """Of its record on disk; 0 without one."""
        self.expiry_s = 0
        self.will: Will | None = None
        self.link: Link | None = None
        self.record: SessionRecord | None = None
        self.on_drop: Callable[[Session, str, Message], None] | None = None
        self.subscriptions: dict[str, tuple[Subscription, int]] | None = None
        """By filter as the client wrote it: options and subscription identifier (0 for none)."""
        self.retained: dict[str, tuple[RetainedMessages, Grant]] | None = None
        """Retained messages that are not all sent, by filter, so never more than there are subscriptions, however
        often they are made. If the client goes meanwhile, they begin anew when it is back (but not after a restart of
        the server)."""
        self._outgoing: dict[int, Outgoing] | None = None
        self._unsent: deque[Outgoing] | None = None
        self._again: dict[int, Outgoing] | None = None
        """What was sent on an earlier connection and has to wait for the window of this one."""
        self._in_flight = 0
        self._queued_bytes = 0
        self._next_packet_id = 0
        self.unreleased: set[int] | None = None
        """QoS 2 packet identifiers received and not yet released [MQTT-4.3.3-10]."""
        self.receiving: dict[int, Reception] | None = None
        """Those of them whose messages are still on their way to another store."""
        self.dropped: dict[str, int] | None = None
        """Messages for this client that were dropped, by limit."""

    @property
    def in_flight(self) -> int:
        """Messages sent and not acknowledged for good."""
        return self._in_flight + len(self._again or ())

    @property
    def queued(self) -> int:
        """Messages not sent yet."""
        return len(self._unsent) if self._unsent is not None else 0

    @property
    def queued_bytes(self) -> int:
        """Their bytes."""
        return self._queued_bytes

    @property
    def is_ready(self) -> bool:
        """Whether a message would go out at once: the client is here and keeps up."""
        return self.link is not None and not (self.link.is_congested or self._unsent or self._again)

    @property
    def outgoing(self) -> Iterator[Outgoing]:
        """Everything owed, in order."""
        return iter((self._outgoing or {}).values())

    # -- messages for the client ----------------------------------------------------------------------------------

    def deliver(self, message: Message, grant: Grant, group: SharedGroup[Session] | None = None) -> None:
        """A message that one of the session's subscriptions matched, at the lower of both QoS [MQTT-3.8.4-8]."""
        self.send(
            message,
            message.qos if message.qos < grant.qos else grant.qos,
            message.retain and grant.retain_as_published,
            grant.subscription_ids,
            group,
        )

    def send(
        self,
        message: Message,
        qos: int,
        retain: bool,
        subscription_ids: tuple[int, ...],
        group: SharedGroup[Session] | None = None,
    ) -> None:
        """Owe the client a message. Those of QoS 0 are for clients that are here; none waits."""
        if qos == 0:
            self.send_qos0(message, retain, subscription_ids)
            return
        if self._outgoing is None or self._unsent is None:
            self._outgoing, self._unsent = {}, deque()
        packet_id = self._free_packet_id()
        if packet_id is None:
            self._drop("packet_identifiers", message)
            return
        outgoing = Outgoing(message, packet_id, qos, retain, subscription_ids, group)
        self._outgoing[packet_id] = outgoing
        self._unsent.append(outgoing)
        self._queued_bytes += message.size
        self._budget.count(1, message.size + OUTGOING_BYTES)
        if self.record is not None:
            self.record.save_outgoing(outgoing)
            if qos == 2:  # seen by the client and lost by us, it would come again under another identifier
                self._hold(outgoing)
        self.pump()
        self._keep_limits()

    def send_qos0(self, message: Message, retain: bool, subscription_ids: tuple[int, ...]) -> None:
        """Send a message if the client is here and keeps up."""
        link = self.link
        if link is not None:
            limit = link.send_qos0(message, retain, subscription_ids)
            if limit is not None:
                self._drop(limit, message)

    def pump(self) -> None:
        """Send what the window allows."""
        link, unsent = self.link, self._unsent
        if link is None or link.is_congested:
            return
        while self._again and self._in_flight < link.window:
            outgoing = self._again.pop(next(iter(self._again)))
            self._in_flight += 1
            limit = link.send_outgoing(outgoing, dup=True)
            if limit is not None:
                self._forget(outgoing)
                self._drop(limit, outgoing.message)
        if self._again or not unsent:
            return
        while unsent and self._in_flight < link.window and not unsent[0].is_held:
            outgoing = unsent.popleft()
            self._queued_bytes -= outgoing.message.size
            outgoing.state = OutgoingState.SENT
            self._in_flight += 1
            if self.record is not None:
                self.record.mark_sent(outgoing.packet_id)
            limit = link.send_outgoing(outgoing, dup=False)
            if limit is not None:
                self._forget(outgoing)
                self._drop(limit, outgoing.message)

    def attach(self, link: Link) -> None:
        """The client is here. If it was before: everything that is in flight goes out again, in order, with its old
        identifiers [MQTT-4.4.0-1] [MQTT-4.6.0-1]; then what has waited."""
        self.link = link
        self._in_flight = 0
        self._again = None
        for packet_id, outgoing in tuple((self._outgoing or {}).items()):
            if outgoing.is_revoked and outgoing.state is OutgoingState.SENT:
                self._in_flight += 1
                self._forget(outgoing)
            elif outgoing.state is OutgoingState.RELEASED:
                self._in_flight += 1
                if not outgoing.is_held:
                    link.send_pubrel(packet_id)
            elif outgoing.state is OutgoingState.SENT:  # the window may be smaller than it was [MQTT-3.3.4-9]
                self._again = self._again or {}
                self._again[packet_id] = outgoing
        self.pump()

    def acknowledged(self, kind: PacketType, packet_id: int, *, is_failure: bool = False) -> bool:
        """PUBACK, PUBREC or PUBCOMP came. False when it answers nothing that was sent (with this QoS)."""
        outgoing = self._outgoing.get(packet_id) if self._outgoing is not None else None
        if outgoing is None or outgoing.state is OutgoingState.QUEUED:
            return False
        if (kind is PacketType.PUBACK) is not (outgoing.qos == 1):
            return False
        if self._again and self._again.pop(packet_id, None) is not None:  # it has not been sent again, but came
            self._in_flight += 1
        if kind is PacketType.PUBREC and not is_failure:
            if outgoing.state is OutgoingState.RELEASED:  # it came again
                self._release(outgoing)
                return True
            outgoing.state = OutgoingState.RELEASED
            if self.record is not None:
                self.record.mark_released(packet_id)
                self._hold(outgoing)
            self._release(outgoing)  # unless it is held
            return True
        if kind is PacketType.PUBCOMP and outgoing.state is not OutgoingState.RELEASED:
            return False
        self._forget(outgoing)
        self.pump()
        return True

    def receive_elsewhere(self, packet_id: int, taken: Pending, *, keeps_refused: bool) -> Reception:
        """A QoS 2 message of the client is being stored by somebody else: what its PUBREC has to wait for."""
        if self.receiving is None:
            self.receiving = {}
        reception = self.receiving[packet_id] = Reception(self, packet_id, keeps_refused)
        taken.add_callback(reception.taken)
        return reception

    def forget_received(self, packet_id: int) -> None:
        """A QoS 2 message of the client was not taken in after all: the same identifier may come with it again."""
        if self.unreleased is not None:
            self.unreleased.discard(packet_id)
        if self.receiving is not None:
            self.receiving.pop(packet_id, None)

    def has_sent(self, packet_id: int) -> bool:
        """Whether a message with this identifier has gone out and its exchange is not over."""
        outgoing = self._outgoing.get(packet_id) if self._outgoing is not None else None
        return outgoing is not None and outgoing.state is not OutgoingState.QUEUED

    def revoke(self, is_meant: Callable[[Message], bool]) -> None:
        """Rights are gone: messages that the client has not seen, or would see again, are not owed any more."""
        self.take_unsent(lambda outgoing: is_meant(outgoing.message))
        for outgoing in tuple(self.outgoing):
            if outgoing.state is OutgoingState.SENT and is_meant(outgoing.message):
                if self.link is None or (self._again and outgoing.packet_id in self._again):
                    self._forget(outgoing)
                else:  # its acknowledgement is on the way, and the client counts it until then
                    outgoing.is_revoked = True

    def take_unsent(self, is_meant: Callable[[Outgoing], bool]) -> list[Outgoing]:
        """Take back messages that have not been sent; others may get them, or nobody."""
        if not self._unsent:
            return []
        taken = [outgoing for outgoing in self._unsent if is_meant(outgoing)]
        for outgoing in taken:
            self._unqueue(outgoing)
        if taken:
            gone = set(map(id, taken))
            self._unsent = deque(outgoing for outgoing in self._unsent if id(outgoing) not in gone)
        return taken

    def take_sent(self, is_meant: Callable[[Outgoing], bool]) -> list[Outgoing]:
        """Take back messages that were sent and not acknowledged: the client will not be back."""
        taken = [o for o in self.outgoing if o.state is OutgoingState.SENT and is_meant(o)]
        for outgoing in taken:
            self._forget(outgoing)
        return taken

    def restore(self, outgoing: Outgoing) -> None:
        """Owe the client again what was read from disk; in order."""
        if self._outgoing is None or self._unsent is None:
            self._outgoing, self._unsent = {}, deque()
        self._outgoing[outgoing.packet_id] = outgoing
        self._next_packet_id = outgoing.packet_id
        self._budget.count(1, outgoing.message.size + OUTGOING_BYTES)
        if outgoing.state is OutgoingState.QUEUED:
            self._unsent.append(outgoing)
            self._queued_bytes += outgoing.message.size
            self._budget.hold(self)
        else:
            self._in_flight += 1

    def clear(self) -> None:
        """The session ends: let go of everything."""
        self._budget.leave(self)
        for outgoing in self.outgoing:
            self._budget.count(-1, -outgoing.message.size - OUTGOING_BYTES)
        self._outgoing = self._unsent = self._again = self.unreleased = self.receiving = self.subscriptions = None
        self.link = self.record = self.will = self.retained = None
        self._in_flight = self._queued_bytes = 0

    # -- within -----------------------------------------------------------------------------------------------------

    def _free_packet_id(self) -> int | None:
        outgoing = self._outgoing
        assert outgoing is not None
        if len(outgoing) >= MAX_PACKET_ID:
            return None
        packet_id = self._next_packet_id % MAX_PACKET_ID + 1
        while packet_id in outgoing:  # [MQTT-2.2.1-4]
            packet_id = packet_id % MAX_PACKET_ID + 1
        self._next_packet_id = packet_id
        return packet_id

    def _hold(self, outgoing: Outgoing) -> None:
        """Let nothing of a message be seen before what was recorded of it is on disk."""
        assert self.record is not None
        written = self.record.written()
        if written is None:
            return
        outgoing.is_held = True

        def let_go(error: Exception | None) -> None:
            if self._outgoing is None or self._outgoing.get(outgoing.packet_id) is not outgoing:
                return
            if error is not None:  # what could not be written is tried again until it can
                again = self.record.written() if self.record is not None else None
                if again is not None:
                    again.add_callback(let_go)
                    return
            outgoing.is_held = False
            if outgoing.state is OutgoingState.RELEASED:
                self._release(outgoing)
            else:
                self.pump()

        written.add_callback(let_go)

    def _release(self, outgoing: Outgoing) -> None:
        if self.link is not None and not outgoing.is_held:
            self.link.send_pubrel(outgoing.packet_id)

    def _forget(self, outgoing: Outgoing) -> None:
        """A message that was sent is acknowledged, or can never be."""
        self._let_go(outgoing)
        if self._again is None or self._again.pop(outgoing.packet_id, None) is None:
            self._in_flight -= 1

    def _unqueue(self, outgoing: Outgoing) -> None:
        """A message that was not sent is not owed any more."""
        self._let_go(outgoing)
        self._queued_bytes -= outgoing.message.size

    def _let_go(self, outgoing: Outgoing) -> None:
        assert self._outgoing is not None
        del self._outgoing[outgoing.packet_id]
        self._budget.count(-1, -outgoing.message.size - OUTGOING_BYTES)
        if self.record is not None:
            self.record.delete_outgoing(outgoing.packet_id)

    def _keep_limits(self) -> None:
        """Drop the oldest messages that wait: of telemetry, the newest is worth most."""
        unsent, limits = self._unsent, self._limits
        if not unsent:
            return
        while len(unsent) > limits.max_queued_messages:
            self.drop_oldest("max_queued_messages")
        while len(unsent) > 1 and self._queued_bytes > limits.max_queued_bytes:
            self.drop_oldest("max_queued_bytes")
        if unsent:
            self._budget.hold(self)
            self._budget.relieve()

    def drop_oldest(self, limit: str) -> bool:
        """See `queue_budget.Holder`."""
        if not self._unsent:
            return False
        outgoing = self._unsent.popleft()
        self._unqueue(outgoing)
        self._drop(limit, outgoing.message)
        return True

    def _drop(self, limit: str, message: Message) -> None:
        if self.dropped is None:
            self.dropped = {}
        self.dropped[limit] = self.dropped.get(limit, 0) + 1
        if self.on_drop is not None:
            self.on_drop(self, limit, message)
