"""The table of sessions: which there are, whose they are, when they end, and what of them is on disk.

A session belongs to a principal and a client id. Nobody gets another's by knowing its client id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from headwater.broker.hand_over import hand_over, hand_over_all
from headwater.broker.journal import Journal
from headwater.broker.records import (
    Clocks,
    JournalRecord,
    outgoing_of,
    read_subscription,
    read_will,
    session_row,
    subscription_row,
)
from headwater.broker.router import Router
from headwater.model.principal import KEY_ONLY, Principal
from headwater.mqtt.message import Message
from headwater.mqtt.outgoing import Outgoing
from headwater.mqtt.packets import Subscription, Will
from headwater.mqtt.queue_budget import QueueBudget, SessionLimits
from headwater.mqtt.reason_codes import ReasonCode
from headwater.mqtt.session import Session
from headwater.mqtt.subscribing import NotGranted
from headwater.mqtt.topic_tree import SharedGroup
from headwater.mqtt.topics import matches, split_share
from headwater.persistence import LoadedState, StoredSession
from headwater.services.access import AccessChange


@dataclass(slots=True)
class Entry:
    """What the table knows of a session beyond its MQTT state."""

    session: Session
    principal: Principal
    ends_at_s: float | None = None
    """When an offline session ends (loop time); None while its client is connected."""
    disconnected_at_ns: int | None = None


@dataclass(frozen=True, slots=True)
class SessionsLimits:
    per_session: SessionLimits
    max_queued_bytes_total: int = 268_435_456
    max_queued_bytes_per_account: int = 67_108_864
    max_subscriptions: int = 100
    max_sessions_per_account: int = 10_000


class OwedWill(NamedTuple):
    """A will that was on disk. Without an entry, its session is over."""

    principal: Principal
    session: Session
    will: Will
    entry: Entry | None


class TooManySessions(Exception):
    """An account has as many stored sessions as it may have."""


class Sessions:
    """Call everything from the event loop's thread. `on_drop` hears of every message that is dropped for a client."""

    def __init__(
        self,
        router: Router,
        journal: Journal,
        clocks: Clocks,
        limits: SessionsLimits,
        on_drop: Callable[[Session, str, Message], None],
    ) -> None:
        self._router = router
        self._journal = journal
        self._clocks = clocks
        self._limits = limits
        self._on_drop = on_drop
        self.budget = QueueBudget(limits.max_queued_bytes_total)
        self._budgets: dict[int | None, QueueBudget] = {}
        """By account; clients without one share theirs."""
        self._entries: dict[tuple[str, str], Entry] = {}
        self._stored: Counter[int | None] = Counter()
        """Stored sessions by account."""
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    @property
    def offline(self) -> int:
        return sum(entry.session.link is None for entry in self._entries.values())

    def find(self, principal: Principal, client_id: str) -> Entry | None:
        """The session of this client of this principal."""
        return self._entries.get((principal.key, client_id))

    def open(
        self, principal: Principal, client_id: str, *, is_clean: bool, expiry_s: int, will: Will | None
    ) -> tuple[Session, bool]:
        """The session for a client that has signed in, and whether it was there before. An older connection of it must
        be gone already. Raises TooManySessions.

        Clients that only show keys in topics are nobody in particular: an id says nothing about them, so each of their
        connections has a session of its own that ends with it.
        """
        if principal == KEY_ONLY:
            session = self._make(principal, client_id)
            session.will = will
            return session, False
        key = (principal.key, client_id)
        entry = self._entries.get(key)
        if entry is not None and is_clean:
            self.end(entry)
            entry = None
        is_present = entry is not None
        if entry is None:
            if expiry_s and self._stored[principal.account_id] >= self._limits.max_sessions_per_account:
                raise TooManySessions
            entry = self._entries[key] = Entry(self._make(principal, client_id), principal)
        session = entry.session
        entry.principal = principal
        entry.ends_at_s = entry.disconnected_at_ns = None
        session.expiry_s, session.will = expiry_s, will
        if expiry_s and session.record is None:
            self._store(entry)
        elif session.record is not None:
            self._save(entry)
        return session, is_present

    def _make(self, principal: Principal, client_id: str) -> Session:
        budget = self._budgets.get(principal.account_id)
        if budget is None:
            most = self._limits.max_queued_bytes_per_account
            budget = QueueBudget(most, "max_queued_bytes_per_account", self.budget)
            self._budgets[principal.account_id] = budget
        session = Session(principal.key, client_id, self._limits.per_session, budget)
        session.on_drop = self._on_drop
        return session

    # -- the disk --------------------------------------------------------------------------------------------------

    def _store(self, entry: Entry) -> None:
        """Write down a session from now on; it has nothing yet, or what it has is written with it."""
        session = entry.session
        self._last_number += 1
        session.number = self._last_number
        record = JournalRecord(self._journal, self._clocks, session.number)
        session.record = record
        self._stored[entry.principal.account_id] += 1
        self._save(entry)
        for subscription, subscription_id in (session.subscriptions or {}).values():
            self._journal.save_subscription(subscription_row(session.number, subscription, subscription_id))
        for outgoing in session.outgoing:
            record.save_outgoing(outgoing)
        for packet_id in session.unreleased or ():
            record.save_received(packet_id)

    def _save(self, entry: Entry) -> None:
        session = entry.session
        self._journal.save_session(
            session_row(
                session.number,
                session.owner,
                session.client_id,
                expiry_s=session.expiry_s,
                disconnected_at_ns=entry.disconnected_at_ns,
                will=session.will,
            )
        )

    def restore(self, state: LoadedState, renew: Callable[[str], Principal | None]) -> list[OwedWill]:
        """Take over what was on disk when the server started. `renew` gives the principal of an owner, or None when it
        may not be here any more. Answers the wills to be published: the server was gone before their clients were, or
        before they were due."""
        now_ns, now_s = self._clocks.now_ns(), self._clocks.now_s()
        by_id: dict[int, Entry] = {}
        wills: list[OwedWill] = []
        over: list[Entry] = []
        for stored in state.sessions:
            self._last_number = max(self._last_number, stored.session_id)
            principal = renew(stored.owner)
            elapsed_s = (now_ns - (stored.disconnected_at_ns or now_ns)) / 1_000_000_000
            if principal is None:
                self._journal.delete_session(stored.session_id)
                continue
            entry = by_id[stored.session_id] = self._restore(stored, principal)
            entry.ends_at_s = now_s + stored.expiry_s - max(0.0, elapsed_s)
            is_over = elapsed_s > stored.expiry_s
            if is_over:
                over.append(entry)
            elif stored.disconnected_at_ns is None:  # or it would begin to age anew at every start
                self._save(entry)
            if entry.session.will is not None:
                wills.append(OwedWill(principal, entry.session, entry.session.will, None if is_over else entry))
        lost_rights: list[Entry] = []
        for subscription_row_ in state.subscriptions:
            if (entry_ := by_id.get(subscription_row_.session_id)) is not None:
                session, subscription = entry_.session, read_subscription(subscription_row_)
                identifier = subscription_row_.identifier
                refused = self.subscribe(session, entry_.principal, subscription, identifier, is_stored=True)
                if refused is not None and session.subscriptions is not None:
                    session.subscriptions[subscription.topic_filter] = subscription, identifier
                    lost_rights.append(entry_)
        for outgoing_row in state.outgoing:
            if (entry_ := by_id.get(outgoing_row.session_id)) is not None:
                outgoing = outgoing_of(outgoing_row, self._clocks)
                outgoing.group = self._group_of(entry_, outgoing)
                entry_.session.restore(outgoing)
        for received in state.received:
            if (entry_ := by_id.get(received.session_id)) is not None:
                session = entry_.session
                session.unreleased = (session.unreleased or set()) | {received.packet_id}
        positions = {row.session_id: row.position for row in state.outgoing}  # they come in order: the last one counts
        for session_id, position in positions.items():
            if (entry_ := by_id.get(session_id)) is not None:
                entry_.session.record = JournalRecord(self._journal, self._clocks, session_id, position)
        for entry in lost_rights:  # while the server was down: with the subscriptions goes what they have brought
            self.apply_rights(entry.session, entry.principal)
        for entry in over:  # only now that those who inherit from it are here
            self.end(entry)
        return wills

    def _group_of(self, entry: Entry, outgoing: Outgoing) -> SharedGroup[Session] | None:
        """The shared subscription that a message from disk came by, as far as that is certain."""
        matching = [f for f in entry.session.subscriptions or () if matches(split_share(f)[1], outgoing.message.topic)]
        if len(matching) != 1:
            return None
        return self._router.group_of(entry.principal, entry.session, matching[0])

    def _restore(self, stored: StoredSession, principal: Principal) -> Entry:
        key = (stored.owner, stored.client_id)
        session = self._make(principal, stored.client_id)
        session.number, session.expiry_s = stored.session_id, stored.expiry_s
        session.will = read_will(stored.will)
        session.record = JournalRecord(self._journal, self._clocks, stored.session_id)
        entry = self._entries[key] = Entry(session, principal)
        entry.disconnected_at_ns = stored.disconnected_at_ns or self._clocks.now_ns()
        self._stored[principal.account_id] += 1
        return entry

    # -- subscriptions -----------------------------------------------------------------------------------------------

    def subscribe(
        self,
        session: Session,
        principal: Principal,
        subscription: Subscription,
        subscription_id: int,
        *,
        is_stored: bool = False,
    ) -> NotGranted | None:
        """Add or replace a subscription, with the QoS that it asks for; or why not. One that is on disk already is
        within the quotas, whatever they are now: its client was told that it has it."""
        kept = session.subscriptions
        if kept is None:
            kept = session.subscriptions = {}
        topic_filter = subscription.topic_filter
        if not is_stored and topic_filter not in kept and len(kept) >= self._limits.max_subscriptions:
            reason = f"a client has {self._limits.max_subscriptions} subscriptions at most: end some first"
            return NotGranted(reason, ReasonCode.QUOTA_EXCEEDED)
        refused = self._router.subscribe(principal, session, subscription, subscription_id, is_stored=is_stored)
        if refused is None:
            kept[topic_filter] = (subscription, subscription_id)
            if session.record is not None and not is_stored:
                self._journal.save_subscription(subscription_row(session.number, subscription, subscription_id))
        return refused

    def unsubscribe(self, session: Session, principal: Principal, topic_filter: str) -> bool:
        """Remove a subscription; whether there was one. Messages that it has brought are still owed
        [MQTT-3.10.4-3], but not those of a shared one: others can have them."""
        if session.subscriptions is None or session.subscriptions.pop(topic_filter, None) is None:
            return False
        self._router.unsubscribe(principal, session, topic_filter)
        if session.retained:
            session.retained.pop(topic_filter, None)
        if session.record is not None:
            self._journal.delete_subscription(session.number, topic_filter)
        if split_share(topic_filter)[0] is not None:
            hand_over(session)
        return True

    def apply_rights(self, session: Session, principal: Principal) -> None:
        """Rights have changed: end subscriptions that would not be granted now, and take back what they brought."""
        lost = [f for f in session.subscriptions or () if not self._router.may_keep(principal, f)]
        for topic_filter in lost:
            self.unsubscribe(session, principal, topic_filter)
        if lost:
            lost_filters = [split_share(topic_filter)[1] for topic_filter in lost]
            kept_filters = [split_share(topic_filter)[1] for topic_filter in session.subscriptions or ()]
            session.revoke(
                lambda message: (
                    any(matches(f, message.topic) for f in lost_filters)
                    and not any(matches(f, message.topic) for f in kept_filters)
                )
            )

    # -- the end -----------------------------------------------------------------------------------------------------

    def disconnected(self, session: Session, principal: Principal) -> Entry | None:
        """The client is gone. Answers the session's entry if it outlives the connection."""
        session.link = None
        entry = self._entries.get((session.owner, session.client_id))
        if entry is None or entry.session is not session:
            self._drop_subscriptions(session, principal)
            session.clear()
            return None
        if not session.expiry_s:
            self.end(entry)
            return None
        entry.ends_at_s = self._clocks.now_s() + session.expiry_s
        entry.disconnected_at_ns = self._clocks.now_ns()
        self._save(entry)
        hand_over(session)
        return entry

    def save(self, session: Session) -> None:
        """Something of a stored session itself has changed."""
        entry = self._entries.get((session.owner, session.client_id))
        if entry is not None and entry.session is session and session.record is not None:
            self._save(entry)

    def principal_of(self, session: Session) -> Principal:
        """Whose session it is."""
        entry = self._entries.get((session.owner, session.client_id))
        return KEY_ONLY if entry is None else entry.principal

    def access_changed(self, change: AccessChange, renew: Callable[[Principal], Principal | None]) -> None:
        """Rights have changed: sessions of those who may not be here any more end. The others that nobody is connected
        to are looked through; those of connected clients are for the broker, which knows them all."""
        for entry in self:
            is_named = change.names(entry.principal)
            renewed = renew(entry.principal) if is_named else entry.principal
            if renewed is None:
                self.end(entry)
                continue
            entry.principal = renewed
            if entry.session.link is None and (is_named or change.bucket_ids):
                self.apply_rights(entry.session, renewed)

    def end(self, entry: Entry) -> None:
        """A session ends, with everything in it."""
        session = entry.session
        session.link = None
        self._drop_subscriptions(session, entry.principal)
        if session.record is not None:
            self._journal.delete_session(session.number)
            self._stored[entry.principal.account_id] -= 1
        session.clear()
        key = (session.owner, session.client_id)
        if self._entries.get(key) is entry:
            del self._entries[key]

    def _drop_subscriptions(self, session: Session, principal: Principal) -> None:
        for topic_filter in tuple(session.subscriptions or ()):
            self._router.unsubscribe(principal, session, topic_filter)
        hand_over_all(session, self._on_drop)

    def expired(self) -> list[Entry]:
        """Offline sessions whose time is over."""
        now_s = self._clocks.now_s()
        return [e for e in self._entries.values() if e.ends_at_s is not None and e.ends_at_s <= now_s]
