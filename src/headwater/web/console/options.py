"""What the console is told by whoever starts it. Reads no environment and no file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from headwater.errors import ConfigurationError
from headwater.services.dialect import ChannelFiles, ChartPoints

SECRET_MIN_BYTES = 32
"""As long as the digest that is made with it."""


@dataclass(frozen=True, slots=True)
class MqttPorts:
    """Where devices reach the broker, for the snippets people copy; None where there is no such listener."""

    plain: int | None = 1883
    tls: int | None = 8883


@dataclass(frozen=True, slots=True)
class ConsoleOptions:
    """The console's settings, built once at start."""

    secret: bytes
    """Signs sessions and form tokens; whoever knows it can sign in as anybody."""
    session_s: int = 14 * 24 * 3600
    """How long a sign-in lasts."""
    mqtt_ports: Callable[[], MqttPorts] = MqttPorts
    """Asked each time a page shows a snippet, since port 0 is only known once the listeners are bound."""
    public_url: str = ""
    """Where people reach the console from outside, behind a proxy for instance; empty: wherever a request says."""
    files: ChannelFiles | None = None
    """Writes and reads the files of the page Data Import / Export; without it that page has no channel to speak of."""
    chart_points: ChartPoints | None = None
    """What charts show whose owner chose other data than the newest entries."""
    has_own_ca: bool = True
    """Whether the server's certificate is by Headwater's own CA, which devices fetch; False with the operator's own."""
    heartbeat_s: float = 15.0
    """Between comments on a quiet live stream, so that proxies keep it open."""
    live_queue_entries: int = 256
    """Entries that may wait for one slow browser before the oldest are dropped."""
    live_streams_per_account: int = 64
    live_streams_per_address: int = 32
    """Of people who are not signed in; a household or a school may share an address."""
    max_form_bytes: int = 512 * 1024
    """A device form that names every one of 10,000 channels twice fits."""
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if len(self.secret) < SECRET_MIN_BYTES:
            raise ConfigurationError(f"the session secret must have at least {SECRET_MIN_BYTES} bytes")
