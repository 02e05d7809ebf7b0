"""Principals: who a connection or a request acts as, and what it may touch."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


class PrincipalKind(enum.Enum):
    DEVICE = "device"
    """An MQTT device: only what its grants allow."""
    ACCOUNT_DEVICE = "account-device"
    """A device of an account: its account's own topic tree, and no channel."""
    ACCOUNT = "account"
    """A person or a script with an account token: everything of that account."""
    KEY_ONLY = "key-only"
    """Nobody in particular: may do only what a key inside a topic or request allows."""
    ANONYMOUS = "anonymous"
    """Nobody in particular, where the operator lets such clients share one topic tree of their own."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a device may do with one channel."""

    bucket_id: int
    allow_publish: bool
    allow_subscribe: bool


@dataclass(frozen=True, slots=True, eq=False)
class Principal:
    """Who acts. Principals with the same key are equal, and the same actor, whatever their grants."""

    kind: PrincipalKind
    account_id: int | None = None
    device_id: int | None = None
    """Of an MQTT device; never of an account device, which has ids of its own."""
    account_device_id: int | None = None
    grants: Mapping[int, Grant] = field(default_factory=lambda: MappingProxyType({}))
    """Bucket id to grant; MQTT devices only."""
    key: str = field(init=False, repr=False)
    """The actor's name, the same for ever: `account:5`, `device:7`, `account-device:3`, `anonymous`, `keys`. Ids are
    never reused, so neither is a name; what is stored for an actor is stored under it."""

    def __post_init__(self) -> None:
        # Made once and kept: a text remembers its hash, and an enumeration's hash is worked out in Python each time.
        object.__setattr__(self, "key", _key_of(self))

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Principal) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def may_publish(self, bucket_id: int, owner_id: int) -> bool:
        """Whether this principal may write to a bucket that the account `owner_id` owns."""
        if self.kind is PrincipalKind.ACCOUNT:
            return self.account_id == owner_id
        grant = self.grants.get(bucket_id)
        return grant is not None and grant.allow_publish

    def may_subscribe(self, bucket_id: int, owner_id: int) -> bool:
        """Whether this principal may read from a bucket that the account `owner_id` owns."""
        if self.kind is PrincipalKind.ACCOUNT:
            return self.account_id == owner_id
        grant = self.grants.get(bucket_id)
        return grant is not None and grant.allow_subscribe


def _key_of(principal: Principal) -> str:
    match principal.kind:
        case PrincipalKind.DEVICE:
            return f"device:{principal.device_id}"
        case PrincipalKind.ACCOUNT_DEVICE:
            return f"account-device:{principal.account_device_id}"
        case PrincipalKind.ACCOUNT:
            return f"account:{principal.account_id}"
        case PrincipalKind.KEY_ONLY:
            return "keys"
        case PrincipalKind.ANONYMOUS:
            return "anonymous"


KEY_ONLY = Principal(PrincipalKind.KEY_ONLY)
ANONYMOUS = Principal(PrincipalKind.ANONYMOUS)
