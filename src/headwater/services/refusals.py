"""What was refused without an answer, and why: a device on MQTT 3.1.1 is never told, so its owner must be.

Messages that were refused or dropped, and sign-ins that failed.

In memory and bounded; it starts empty with the process.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from headwater.model.principal import Principal
from headwater.mqtt.publish_properties import PublishProperties
from headwater.mqtt.publishing import PublishTarget, Refused
from headwater.registry.entities import AccountDevice, MqttDevice
from headwater.services.mqtt_sign_in import SignInFailed

MAX_SUBJECTS = 10_000
MAX_REASONS = 5
"""Different ones, for each subject, besides failed sign-ins."""
MAX_REASON_LENGTH = 300
"""Characters. Some reasons name a topic, which may be far longer."""
_FAILED_SIGN_INS = None


@dataclass(slots=True)
class Refusal:
    """How often something was refused for one reason, and when last."""

    count: int
    reason: str
    at_ns: int


class RefusalLog:
    """What was refused to one subject. `count` is all of it, also for reasons that are not kept any more.

    Failed sign-ins are one reason, whatever they say, and take no other's place: strangers make them at will.
    """

    def __init__(self) -> None:
        self.count = 0
        self._by_key: OrderedDict[str | None, Refusal] = OrderedDict()
        """The key of a reason is its text; all failed sign-ins have one."""

    @property
    def reasons(self) -> list[Refusal]:
        """The last few different ones, newest first."""
        return list(reversed(self._by_key.values()))

    @property
    def reason(self) -> str:
        """The latest."""
        return next(reversed(self._by_key.values())).reason

    def add(self, reason: str, count: int, at_ns: int) -> None:
        if len(reason) > MAX_REASON_LENGTH:
            reason = reason[: MAX_REASON_LENGTH - 1] + "…"
        self._put(reason, reason, count, at_ns)
        if len(self._by_key) > MAX_REASONS:
            others = [key for key in self._by_key if key is not _FAILED_SIGN_INS]
            if len(others) > MAX_REASONS:
                del self._by_key[others[0]]

    def add_failed_sign_in(self, reason: str, address: str, at_ns: int) -> None:
        """Of all of them, only the last is told in words."""
        is_first = _FAILED_SIGN_INS not in self._by_key
        beginning = "sign-in refused:" if is_first else "sign-ins refused, the last one:"
        self._put(_FAILED_SIGN_INS, f"{beginning} {reason} (from {address})", 1, at_ns)

    def _put(self, key: str | None, reason: str, count: int, at_ns: int) -> None:
        self.count += count
        refusal = self._by_key.get(key)
        count_before = 0 if refusal is None else refusal.count
        self._by_key[key] = Refusal(count_before + count, reason, at_ns)
        self._by_key.move_to_end(key)


class Refusals:
    """Counts by device of either kind and by channel; the subjects refused longest ago are forgotten first."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._by_subject: OrderedDict[tuple[str, int], RefusalLog] = OrderedDict()
        self.total = 0
        """Refused messages of all devices, and updates over HTTP that came too fast; neither sign-ins nor dropped
        messages."""

    def note(
        self,
        reason: str,
        *,
        device_id: int | None = None,
        account_device_id: int | None = None,
        channel_id: int | None = None,
    ) -> None:
        """Count one refused message for the device that sent it and the channel it was meant for, as far as known."""
        self.total += 1
        self._note_device(reason, device_id, account_device_id)
        if channel_id is not None:
            self._log_of(("channel", channel_id)).add(reason, 1, self._clock_ns())

    def refusing(
        self, principal: Principal, reason: str, channel_id: int | None = None, *, topic: str = ""
    ) -> PublishTarget:
        """Who takes messages for a topic that this principal may not publish to: counts them, and says why not. Only
        the owner's page names the `topic`; the client knows it."""
        device_id, account_device_id = principal.device_id, principal.account_device_id
        noted = f"{reason} (topic {topic})" if topic else reason

        def refuse(_payload: bytes, _flags: int, _now_ns: int, _properties: PublishProperties | None) -> Refused:
            self.note(noted, device_id=device_id, account_device_id=account_device_id, channel_id=channel_id)
            return Refused(reason)

        return refuse

    def note_failed_sign_in(self, failure: SignInFailed, address: str) -> None:
        """Count a failed sign-in for the device that was meant, if there is one: its owner learns what is wrong, or
        that somebody tries to find out its password."""
        for log in self._logs_of_device(failure.device_id, failure.account_device_id):
            log.add_failed_sign_in(failure.reason, address, self._clock_ns())

    def note_dropped(
        self, limit: str, *, device_id: int | None = None, account_device_id: int | None = None, count: int = 1
    ) -> None:
        """Count messages that a device should have got and did not, because this limit was reached."""
        self._note_device(f"messages for this device were dropped: limit {limit}", device_id, account_device_id, count)

    def of(self, device: MqttDevice | AccountDevice) -> RefusalLog | None:
        """What was refused to a device of either kind."""
        return self.of_device(device.id) if isinstance(device, MqttDevice) else self.of_account_device(device.id)

    def of_device(self, device_id: int) -> RefusalLog | None:
        return self._by_subject.get(("device", device_id))

    def of_account_device(self, id_: int) -> RefusalLog | None:
        return self._by_subject.get(("account-device", id_))

    def of_channel(self, channel_id: int) -> RefusalLog | None:
        return self._by_subject.get(("channel", channel_id))

    def _note_device(self, reason: str, device_id: int | None, account_device_id: int | None, count: int = 1) -> None:
        for log in self._logs_of_device(device_id, account_device_id):
            log.add(reason, count, self._clock_ns())

    def _logs_of_device(self, device_id: int | None, account_device_id: int | None) -> Iterator[RefusalLog]:
        if device_id is not None:
            yield self._log_of(("device", device_id))
        if account_device_id is not None:
            yield self._log_of(("account-device", account_device_id))

    def _log_of(self, subject: tuple[str, int]) -> RefusalLog:
        """What is known of a subject to which something is refused now."""
        refused = self._by_subject.get(subject)
        if refused is None:
            if len(self._by_subject) >= MAX_SUBJECTS:
                self._by_subject.popitem(last=False)
            refused = self._by_subject[subject] = RefusalLog()
        self._by_subject.move_to_end(subject)
        return refused
