"""What the registry knows: accounts, tokens, channels with their keys, MQTT devices with their grants, account
devices. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from headwater.model.entry import FIELD_NUMBERS
from headwater.model.principal import Grant


@dataclass(frozen=True, slots=True)
class Account:
    """A person's space. ThingSpeak calls it a user, InfluxDB an organisation."""

    id: int
    name: str
    is_admin: bool
    user_api_key: str
    """ThingSpeak's user key: manages channels over REST. 16 characters of 0-9A-Z."""
    mqtt_api_key: str
    """ThingSpeak's account-wide MQTT key (legacy subscribe password). 16 characters of 0-9A-Z."""
    time_zone: str
    created_at: datetime
    session_epoch: int
    """Grows when the password changes, so that older browser sessions end."""
    email: str = ""
    """Where mails to this account go; empty for nowhere."""
    alerts_api_key: str = ""
    """ThingSpeak's key for mails to the owner. 16 characters of 0-9A-Z."""


@dataclass(frozen=True, slots=True)
class AccountToken:
    """A token with all rights of its account. Only its hash is kept; the text is shown once."""

    id: int
    account_id: int
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A channel's write or read key. 16 characters of 0-9A-Z."""

    id: int
    key: str
    allows_write: bool
    note: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """What an owner may set on a ThingSpeak channel; every text may be empty.

    `fields` maps a field's number to its name; a number that is missing has no name and is not shown. Numbers above 8
    exist in a channel once they are named.
    """

    name: str = ""
    description: str = ""
    fields: dict[int, str] = field(default_factory=dict)
    latitude: str = "0.0"
    longitude: str = "0.0"
    elevation: str = ""
    is_public: bool = False
    url: str = ""
    github_url: str = ""
    metadata: str = ""
    tags: tuple[str, ...] = ()
    retention_s: int | None = None
    """For how long entries are kept; None for ever."""
    units: dict[int, str] = field(default_factory=dict)
    """Of fields that are named; likewise below."""
    labels: dict[int, str] = field(default_factory=dict)
    """What people read in place of the field's name."""
    takes_names: bool = False
    """Whether updates may call a field by its name."""
    numbers: Sequence[int] = field(init=False, compare=False, repr=False)
    """The fields that entries may have: `FIELD_NUMBERS` itself, or those and what is named above. Every update and read
    asks, so it is worked out once."""

    def __post_init__(self) -> None:
        more = sorted(number for number in self.fields if number > FIELD_NUMBERS[-1])
        object.__setattr__(self, "numbers", (*FIELD_NUMBERS, *more) if more else FIELD_NUMBERS)

    def field_title(self, number: int) -> str:
        """What people read of a field: its label or name, and its unit if it has one."""
        title = self.labels.get(number) or self.fields.get(number) or f"Field {number}"
        return f"{title} ({self.units[number]})" if number in self.units else title


@dataclass(frozen=True, slots=True)
class Channel:
    """A bucket with named fields. The channel id is the bucket id."""

    id: int
    account_id: int
    settings: ChannelSettings
    api_keys: tuple[ApiKey, ...]
    """The write key first, then read keys by age."""
    created_at: datetime
    updated_at: datetime

    @property
    def write_key(self) -> str:
        return next(key.key for key in self.api_keys if key.allows_write)

    @property
    def read_keys(self) -> tuple[str, ...]:
        return tuple(key.key for key in self.api_keys if not key.allows_write)


_UNITS_S = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class Rollup:
    """A rule for down-sampling one bucket into another, which exists for nothing else."""

    id: int
    account_id: int
    bucket_id: int
    target_bucket_id: int
    window_s: int
    aggregates: tuple[str, ...]
    keep_s: int | None
    """For how long results are kept; None for ever."""
    created_at: datetime

    @property
    def window_name(self) -> str:
        """What the window is called on a command line and in SQL: 15m, 1h, 7d."""
        unit, unit_s = next((unit, unit_s) for unit, unit_s in _UNITS_S.items() if self.window_s % unit_s == 0)
        return f"{self.window_s // unit_s}{unit}"


@dataclass(frozen=True, slots=True)
class MqttDevice:
    """Something that signs in over MQTT. Client id and user name are the same text; the password is kept as a
    hash."""

    id: int
    account_id: int
    name: str
    client_id: str
    username: str
    is_enabled: bool
    grants: tuple[Grant, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AccountDevice:
    """Something that signs in over MQTT as part of its account: its device id is the client id, the account's name the
    user name. The credential is kept as a hash."""

    id: int
    account_id: int
    device_id: str
    """Unique within the account; never changes."""
    name: str
    is_enabled: bool
    created_at: datetime
