"""What a member of shared subscriptions leaves to the others (5.0 section 4.8.2). Knows no socket and no disk."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from headwater.broker.router import MAX_ASKED_MEMBERS, deliver_to_one
from headwater.mqtt.message import Message
from headwater.mqtt.outgoing import Outgoing
from headwater.mqtt.session import Session
from headwater.mqtt.topic_tree import SharedGroup

SESSION_ENDED = "session_ended"
"""What messages of a shared subscription count as that were dropped because its last member is gone."""
_MIN_ASKED_MEMBERS = 10

GroupTest = Callable[[SharedGroup[Session]], bool]


def hand_over(session: Session) -> None:
    """The client is away, or has unsubscribed: give what it was not sent to other members. Where it is a member still,
    only to those who take it at once, because it may be back; where it is not, to any."""
    is_ready: dict[int, bool] = {}  # by group, of which there may be thousands of members

    def may_give(group: SharedGroup[Session]) -> bool:
        if session not in group:
            return bool(len(group))
        if id(group) not in is_ready:
            asked = islice(group.in_turn(), MAX_ASKED_MEMBERS)
            is_ready[id(group)] = any(member.is_ready and member is not session for member, _ in asked)
        return is_ready[id(group)]

    _give(session.take_unsent(_of(may_give)))


def hand_over_all(session: Session, on_drop: Callable[[Session, str, Message], None]) -> None:
    """The session ends, and is a member of no group any more: give what it was not sent to any other member, and what
    it has not acknowledged of QoS 1; QoS 2 that was sent goes to nobody else. Where nobody is left, it is dropped."""
    taken = session.take_sent(lambda o: o.group is not None and o.qos == 1 and not o.is_revoked)
    taken += session.take_unsent(lambda o: o.group is not None)
    _give(taken)
    for outgoing in taken:
        if not outgoing.group:
            on_drop(session, SESSION_ENDED, outgoing.message)


def _of(may_give: GroupTest) -> Callable[[Outgoing], bool]:
    return lambda outgoing: outgoing.group is not None and may_give(outgoing.group)


def _give(taken: list[Outgoing]) -> None:
    # Looking for a member that is ready among thousands that are not, for each of a thousand messages, takes too long.
    max_asked = max(_MIN_ASKED_MEMBERS, MAX_ASKED_MEMBERS // max(1, len(taken)))
    for outgoing in taken:
        if outgoing.group is not None:
            deliver_to_one(outgoing.group, outgoing.message, max_asked)
