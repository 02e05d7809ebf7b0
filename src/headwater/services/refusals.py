"""What was refused without an answer, and why: a device on MQTT 3.1.1 is never told, so its owner must be.

In memory and bounded; it starts empty with the process.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_SUBJECTS = 10_000


@dataclass(slots=True)
class Refusal:
    """How often something was refused, and the latest reason."""

    count: int
    reason: str
    at_ns: int


class Refusals:
    """Counts by device and by channel; the subjects refused longest ago are forgotten first."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._by_subject: OrderedDict[tuple[str, int], Refusal] = OrderedDict()
        self.total = 0

    def note(self, reason: str, *, device_id: int | None = None, channel_id: int | None = None) -> None:
        """Count one refusal for the device that sent it and the channel it was meant for, as far as known."""
        self.total += 1
        for subject in (("device", device_id), ("channel", channel_id)):
            if subject[1] is not None:
                self._note((subject[0], subject[1]), reason)

    def _note(self, subject: tuple[str, int], reason: str) -> None:
        refusal = self._by_subject.get(subject)
        if refusal is None:
            if len(self._by_subject) >= MAX_SUBJECTS:
                self._by_subject.popitem(last=False)
            self._by_subject[subject] = Refusal(1, reason, self._clock_ns())
            return
        refusal.count += 1
        refusal.reason = reason
        refusal.at_ns = self._clock_ns()
        self._by_subject.move_to_end(subject)

    def of_device(self, device_id: int) -> Refusal | None:
        return self._by_subject.get(("device", device_id))

    def of_channel(self, channel_id: int) -> Refusal | None:
        return self._by_subject.get(("channel", channel_id))
