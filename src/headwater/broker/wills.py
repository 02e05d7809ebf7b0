"""Wills: the messages that clients leave behind for when they vanish (5.0 section 3.1.2.5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from headwater.logs import Log
from headwater.model.principal import Principal
from headwater.mqtt.limits import COPIES_PER_TURN, Turn
from headwater.mqtt.packets import Will
from headwater.mqtt.session import Session

WILLS_PER_TURN = 100

WillPublisher = Callable[[Principal, Session, Will], None]

log = Log(__name__)


class Wills:
    """Wills that are due now or later. Those that are due now are published a few in each turn of the loop: ten
    thousand clients may be cut off in one moment."""

    def __init__(self, publish: WillPublisher, call_soon: Callable[[Callable[[], None]], object], turn: Turn) -> None:
        self._publish = publish
        self._call_soon = call_soon
        self._turn = turn
        self._due: deque[tuple[Principal, Session, Will]] = deque()
        self._delayed: dict[int, tuple[float, Principal, Session, Will]] = {}

    def publish_soon(self, principal: Principal, session: Session, will: Will) -> None:
        """In this turn of the loop or one of the next."""
        if not self._due:
            self._call_soon(self._publish_some)
        self._due.append((principal, session, will))

    def publish_at(self, at_s: float, principal: Principal, session: Session, will: Will) -> None:
        """At a time (loop time), unless `cancel` comes first."""
        self._delayed[id(session)] = (at_s, principal, session, will)

    def cancel(self, session: Session) -> bool:
        """The client is back [MQTT-3.1.3-9]; whether a will was waiting."""
        return self._delayed.pop(id(session), None) is not None

    def hasten(self, session: Session) -> None:
        """The session ends, so its will waits no longer."""
        delayed = self._delayed.pop(id(session), None)
        if delayed is not None:
            self.publish_soon(*delayed[1:])

    def sweep(self, now_s: float) -> list[Session]:
        """Publish what has become due; answers whose."""
        due = [delayed for delayed in self._delayed.values() if delayed[0] <= now_s]
        for _, principal, session, will in due:
            del self._delayed[id(session)]
            self.publish_soon(principal, session, will)
        return [session for _, _, session, _ in due]

    def publish_all(self) -> None:
        """The server stops: publish what is due without waiting for another turn."""
        while self._due:
            self._publish_next()

    def _publish_some(self) -> None:
        self._turn.left = COPIES_PER_TURN
        for _ in range(min(WILLS_PER_TURN, len(self._due))):
            self._publish_next()
            if self._turn.left < 0:
                break
        if self._due:
            self._call_soon(self._publish_some)

    def _publish_next(self) -> None:
        principal, session, will = self._due.popleft()
        try:
            self._publish(principal, session, will)
        except Exception:  # a fault with one will must not keep those of others back
            log.exception("a will could not be published", client_id=session.client_id)
