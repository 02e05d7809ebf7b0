"""What stands between a PUBLISH and whoever takes its message: the contract of the session and the router, and of
every dialect that answers for topics. Values and protocols only."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from headwater.mqtt.publish_properties import PublishProperties
from headwater.mqtt.reason_codes import ReasonCode


class Pending(Protocol):
    """Something that will be on disk, or fail to get there."""

    def add_callback(self, callback: Callable[[Exception | None], None]) -> None:
        """Call `callback` once, with None when stored or with what went wrong."""


class OutOfTurn(NamedTuple):
    """A promise that may take long to be kept. Its acknowledgement goes out when it is, and no later one waits for it:
    only clients must acknowledge in order [MQTT-4.6.0-2]."""

    pending: Pending

    def add_callback(self, callback: Callable[[Exception | None], None]) -> None:
        """See `Pending`."""
        self.pending.add_callback(callback)


class Refused(NamedTuple):
    """A message that was not taken. MQTT 5 clients are told so; older ones get a plain acknowledgement, because
    without one they would send the message for ever."""

    reason: str
    reason_code: ReasonCode = ReasonCode.NOT_AUTHORIZED
    pending: Pending | None = None
    """What the answer has to wait for all the same: a message that cannot be retained is still handed on."""


PublishTarget = Callable[[bytes, int, int, PublishProperties | None], Pending | Refused | None]
"""Takes (payload, flags, at_ns, properties): `flags` are the lower four bits of PUBLISH (DUP, QoS, RETAIN), `at_ns` the
time of receipt, `properties` None where there are none. Answers what an acknowledgement has to wait for, None for
nothing, or why the message was refused. Raises StorageError only."""
