"""Principals: who a connection or a request acts as, and what it may touch."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


class PrincipalKind(enum.Enum):
    DEVICE = "device"
    """An MQTT device: only what its grants allow."""
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


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts. Equal principals are the same actor."""

    kind: PrincipalKind
    account_id: int | None = None
    device_id: int | None = None
    grants: Mapping[int, Grant] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    """Bucket id to grant; devices only."""

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


KEY_ONLY = Principal(PrincipalKind.KEY_ONLY)
ANONYMOUS = Principal(PrincipalKind.ANONYMOUS)
