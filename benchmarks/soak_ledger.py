"""What was sent, what was promised and what was seen during a soak: finds every loss. Knows no MQTT and no clock."""

from __future__ import annotations

from collections import Counter, defaultdict


class Stream:
    """The numbered messages of one publisher with one QoS, from 1 on, in order."""

    __slots__ = ("sent", "subscribers")

    def __init__(self) -> None:
        self.sent = 0
        self.subscribers: dict[str, int] = {}
        """The highest number that each has seen."""


class Ledger:
    """Everything of one soak. `faults` counts what must not happen, by name; `counts` everything else."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._streams: defaultdict[tuple[str, int], Stream] = defaultdict(Stream)
        self._wills_due: set[tuple[str, int]] = set()
        self._wills_seen: set[tuple[str, int]] = set()
        self._states_sent: Counter[str] = Counter()
        self._states_acknowledged: Counter[str] = Counter()

    # -- messages -----------------------------------------------------------------------------------------

    def subscribed(self, subscriber: str, publisher: str) -> None:
        """From here on every QoS 1 and 2 message of `publisher` must reach `subscriber`."""
        for qos in (1, 2):
            self._streams[publisher, qos].subscribers[subscriber] = self._streams[publisher, qos].sent

    def next_number(self, publisher: str, qos: int) -> int:
        stream = self._streams[publisher, qos]
        stream.sent += 1
        self.counts[f"sent with QoS {qos}"] += 1
        return stream.sent

    def seen(self, subscriber: str, publisher: str, qos: int, number: int) -> None:
        """A message arrived. Numbers of a stream come in order, so a gap is a loss, and a step back a duplicate, which
        only QoS 1 allows."""
        self.counts[f"received with QoS {qos}"] += 1
        if not qos:
            return
        subscribers = self._streams[publisher, qos].subscribers
        expected = subscribers[subscriber] + 1
        if number < expected:
            if qos == 2:
                self.faults["QoS 2 duplicates"] += 1
            else:
                self.counts["QoS 1 duplicates"] += 1
            return
        self.faults[f"lost with QoS {qos}"] += number - expected
        subscribers[subscriber] = number

    def outstanding(self) -> Counter[str]:
        """What has been sent and not seen yet, under the name of the fault it is once nothing more can come."""
        missing: Counter[str] = Counter()
        for (_, qos), stream in self._streams.items():
            for seen in stream.subscribers.values():
                missing[f"lost with QoS {qos}"] += stream.sent - seen
        missing["lost wills"] = len(self._wills_due - self._wills_seen)
        return +missing

    def close(self) -> None:
        """Nothing more can come."""
        self.faults.update(self.outstanding())
        self.faults["wills that nobody was owed"] += len(self._wills_seen - self._wills_due)
        self.faults = +self.faults

    # -- wills --------------------------------------------------------------------------------------------

    def will_due(self, client: str, life: int) -> None:
        """A client has gone without DISCONNECT."""
        self._wills_due.add((client, life))
        self.counts["wills due"] += 1

    def will_seen(self, client: str, life: int) -> None:
        self._wills_seen.add((client, life))
        self.counts["wills seen"] += 1

    # -- retained messages --------------------------------------------------------------------------------

    def next_state(self, topic: str) -> int:
        self._states_sent[topic] += 1
        self.counts["retained set"] += 1
        return self._states_sent[topic]

    def state_acknowledged(self, topic: str, number: int) -> None:
        self._states_acknowledged[topic] = number

    def oldest_allowed_state(self, topic: str) -> int:
        """A new subscriber must be sent this state or a newer one; 0 when it need not get any."""
        return self._states_acknowledged[topic]

    def state_read(self, number: int, oldest_allowed: int) -> None:
        """What a new subscriber was sent first."""
        self.counts["retained read"] += 1
        if number < oldest_allowed:
            self.faults["stale retained messages"] += 1
