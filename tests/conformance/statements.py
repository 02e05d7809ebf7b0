"""What a normative statement of an MQTT specification is, and which side has to keep it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Binds(enum.Enum):
    SERVER = "server"
    CLIENT = "client"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Statement:
    number: str
    """As the specification numbers it, without `MQTT-`: `3.3.1-4`."""
    binds: Binds
    summary: str
    note: str = ""
    """What Headwater chose where the specification leaves a choice, or why it deviates."""

    @property
    def section(self) -> str:
        return self.number.partition("-")[0]

    @property
    def is_for_server(self) -> bool:
        return self.binds is not Binds.CLIENT

    @property
    def test_name(self) -> str:
        """The function that shows it; further ones add `_` and what is special about them."""
        return "test_mqtt_" + self.number.replace(".", "_").replace("-", "_")


SERVER, CLIENT, BOTH = Binds.SERVER, Binds.CLIENT, Binds.BOTH
