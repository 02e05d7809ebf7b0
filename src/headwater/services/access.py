"""Who may do what, answered from memory on the event loop's thread. Knows no database and no wire format.

Filled from a registry snapshot (`load`) and kept in step by the services, which call `put_*` and `drop_*`
once the registry has committed.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeVar

from headwater.errors import NotAuthenticated
from headwater.model.principal import ANONYMOUS, KEY_ONLY, Principal, PrincipalKind
from headwater.registry.directory import Directory, KnownDevice
from headwater.registry.entities import Account, AccountToken, Channel, MqttDevice
from headwater.registry.keys import hash_secret
from headwater.registry.registry import Snapshot

MAX_SECRET_LENGTH = 1024
"""No key or token is longer; what is, matches nothing and is not even hashed."""

_NONE: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class AccessChange:
    """What a change touched: rights that were worked out for these are to be worked out anew."""

    device_ids: frozenset[int] = _NONE
    bucket_ids: frozenset[int] = _NONE
    account_ids: frozenset[int] = _NONE
    ends_sessions: bool = False
    """Credentials were withdrawn: whoever is connected as one of these devices or accounts must sign in
    again."""


class Access:
    """Answers from memory. `allow_topic_keys` lets clients without credentials in, for keys in topics;
    `allow_anonymous` gives them a topic tree of their own besides."""

    def __init__(self, *, allow_topic_keys: bool = True, allow_anonymous: bool = False) -> None:
        self._allow_topic_keys = allow_topic_keys
        self._allow_anonymous = allow_anonymous
        self._listeners: list[Callable[[AccessChange], None]] = []
        self._known = Directory()

    def on_change(self, listener: Callable[[AccessChange], None]) -> None:
        """Call `listener` after every change, on the loop's thread."""
        self._listeners.append(listener)

    # Accounts

    def account(self, account_id: int) -> Account | None:
        return self._known.accounts.get(account_id)

    def account_named(self, name: str) -> Account | None:
        return _follow(self._known.account_ids.get(name), self._known.accounts)

    def account_of_key(self, key: str) -> Account | None:
        """The account of a user API key or an account token."""
        key_hash = _hash_of(key)
        account = _follow(self._known.user_keys.get(key_hash), self._known.accounts)
        if account is None and (token := self._known.tokens.get(key_hash)) is not None:
            account = self._known.accounts[token.account_id]
        return account

    def accounts(self) -> list[Account]:
        """Every account, by name."""
        return sorted(self._known.accounts.values(), key=lambda account: account.name)

    def tokens_of(self, account_id: int) -> list[AccountToken]:
        """An account's tokens, oldest first."""
        return _owned(self._known.tokens.values(), account_id)

    # Channels

    def channel(self, channel_id: int) -> Channel | None:
        return self._known.channels.get(channel_id)

    def channel_ids(self) -> frozenset[int]:
        """The id of every channel there is."""
        return frozenset(self._known.channels)

    def channel_of_write_key(self, key: str) -> Channel | None:
        return _follow(self._known.write_keys.get(_hash_of(key)), self._known.channels)

    def channels_of(self, account_id: int) -> list[Channel]:
        """An account's channels, oldest first."""
        return _owned(self._known.channels.values(), account_id)

    def may_read(self, channel: Channel, key: str | None, account: Account | None = None) -> bool:
        """Whether a channel may be read: it is public, or the reader is its owner, or shows one of its keys
        (read or write), its owner's user API key or a token of its owner."""
        if channel.settings.is_public or (account is not None and account.id == channel.account_id):
            return True
        if key is None:
            return False
        key_hash = _hash_of(key)
        if channel.id in (self._known.read_keys.get(key_hash), self._known.write_keys.get(key_hash)):
            return True
        owner = self.account_of_key(key)
        return owner is not None and owner.id == channel.account_id

    # MQTT

    def device(self, device_id: int) -> MqttDevice | None:
        known = self._known.devices.get(device_id)
        return None if known is None else known.device

    def devices_of(self, account_id: int) -> list[MqttDevice]:
        """An account's MQTT devices, oldest first."""
        return _owned((known.device for known in self._known.devices.values()), account_id)

    def authenticate_mqtt(self, client_id: str, username: str | None, password: bytes | None) -> Principal:
        """Who signs in. The first rule that fits decides:

        1. the client id of a device: user name and password must be that device's, and the device be enabled;
        2. the password is an account token: that account, with all its rights;
        3. the password is an account's MQTT API key, and there is a user name: what keys in topics allow;
        4. no password, where `allow_anonymous`: the anonymous topic tree, and what keys in topics allow;
        5. no password, where `allow_topic_keys`: what keys in topics allow.

        Raises: `NotAuthenticated`, in the same words for every reason.
        """
        known = _follow(self._known.device_ids.get(client_id), self._known.devices)
        if known is not None:
            return _authenticate_device(known, username or "", password or b"")
        if password:
            password_hash = _hash_of(password)
            if (token := self._known.tokens.get(password_hash)) is not None:
                return Principal(PrincipalKind.ACCOUNT, account_id=token.account_id)
            if username and password_hash in self._known.mqtt_keys:
                return KEY_ONLY
        elif self._allow_anonymous:
            return ANONYMOUS
        elif self._allow_topic_keys:
            return KEY_ONLY
        raise _not_authenticated()

    def renewed(self, principal: Principal) -> Principal | None:
        """The same actor with the rights of now; None when its device is disabled or gone, or its account is
        gone."""
        if principal.device_id is not None:
            device = self.device(principal.device_id)
            return _principal_of(device) if device is not None and device.is_enabled else None
        if principal.account_id is not None and self.account(principal.account_id) is None:
            return None
        return principal

    # Kept in step by the services

    def load(self, snapshot: Snapshot) -> None:
        """Take over a snapshot in place of what is known, and announce what differs."""
        old, new = self._known, Directory(snapshot)
        self._known = new
        changed_devices = _differing(old.devices, new.devices)
        lost_tokens = old.tokens.keys() - new.tokens.keys()
        ends_sessions = (
            bool(lost_tokens)
            or not old.accounts.keys() <= new.accounts.keys()
            or any(_is_shut_out(old.devices.get(id_), new.devices.get(id_)) for id_ in changed_devices)
        )
        self._announce(
            AccessChange(
                device_ids=changed_devices,
                bucket_ids=_differing(old.channels, new.channels),
                account_ids=_differing(old.accounts, new.accounts)
                | {old.tokens[token_hash].account_id for token_hash in lost_tokens},
                ends_sessions=ends_sessions,
            )
        )

    def put_account(self, account: Account) -> None:
        """An account is new or has changed."""
        self._known.put_account(account)
        self._announce(AccessChange(account_ids=frozenset({account.id})))

    def drop_account(self, account_id: int) -> None:
        """An account is gone, and with it everything it owned."""
        devices, channels = self.devices_of(account_id), self.channels_of(account_id)
        for device in devices:
            self._known.remove_device(device.id)
        for channel in channels:
            self._known.remove_channel(channel.id)
        for token in self.tokens_of(account_id):
            self._known.remove_token(token.id)
        self._known.remove_account(account_id)
        self._announce(
            AccessChange(
                device_ids=frozenset(device.id for device in devices),
                bucket_ids=frozenset(channel.id for channel in channels),
                account_ids=frozenset({account_id}),
                ends_sessions=True,
            )
        )

    def put_token(self, token: AccountToken, token_hash: bytes) -> None:
        """A token is new."""
        self._known.tokens[token_hash] = token
        self._announce(AccessChange(account_ids=frozenset({token.account_id})))

    def drop_token(self, token: AccountToken) -> None:
        """A token is gone. Connections do not remember which token they came with, so all of the account's
        end."""
        self._known.remove_token(token.id)
        self._announce(AccessChange(account_ids=frozenset({token.account_id}), ends_sessions=True))

    def put_channel(self, channel: Channel) -> None:
        """A channel is new, or its settings or keys have changed."""
        self._known.put_channel(channel)
        self._announce(AccessChange(bucket_ids=frozenset({channel.id})))

    def drop_channel(self, channel_id: int) -> None:
        """A channel is gone, and with it the grants on it."""
        holders = self._known.remove_channel(channel_id)
        self._announce(AccessChange(device_ids=frozenset(holders), bucket_ids=frozenset({channel_id})))

    def put_device(self, device: MqttDevice, password_hash: bytes | None = None) -> None:
        """A device has changed, or (with the hash of its password) is new or has got a new password."""
        old = self._known.devices.get(device.id)
        if password_hash is None:
            password_hash = self._known.devices[device.id].password_hash
        self._known.put_device(device, password_hash)
        ends_sessions = _is_shut_out(old, self._known.devices[device.id])
        self._announce(AccessChange(device_ids=frozenset({device.id}), ends_sessions=ends_sessions))

    def drop_device(self, device_id: int) -> None:
        """A device is gone."""
        self._known.remove_device(device_id)
        self._announce(AccessChange(device_ids=frozenset({device_id}), ends_sessions=True))

    def _announce(self, change: AccessChange) -> None:
        for listener in self._listeners:
            listener(change)


class _Owned(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def account_id(self) -> int: ...


K = TypeVar("K")
V = TypeVar("V")
OwnedT = TypeVar("OwnedT", bound=_Owned)


def _owned(things: Iterable[OwnedT], account_id: int) -> list[OwnedT]:
    return sorted((thing for thing in things if thing.account_id == account_id), key=lambda thing: thing.id)


def _follow(key: int | None, things: Mapping[int, V]) -> V | None:
    return None if key is None else things[key]


def _differing(old: Mapping[K, object], new: Mapping[K, object]) -> frozenset[K]:
    """The keys whose values are not the same in both."""
    return frozenset(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def _hash_of(secret: str | bytes) -> bytes:
    """SHA-256 of a key or token. Blanks around it do not count: sketches in the field send keys with trailing
    ones. What cannot be one gives a hash that matches nothing."""
    if len(secret) > MAX_SECRET_LENGTH:
        return b""
    return hash_secret(secret.strip())


def _authenticate_device(known: KnownDevice, username: str, password: bytes) -> Principal:
    device, password_hash = known
    has_name = hmac.compare_digest(hash_secret(username), hash_secret(device.username))
    has_password = len(password) <= MAX_SECRET_LENGTH and hmac.compare_digest(hash_secret(password), password_hash)
    if not (has_name and has_password and device.is_enabled):
        raise _not_authenticated()
    return _principal_of(device)


def _not_authenticated() -> NotAuthenticated:
    return NotAuthenticated("the client id, user name or password is wrong, or the device is disabled")


def _principal_of(device: MqttDevice) -> Principal:
    return Principal(
        PrincipalKind.DEVICE,
        account_id=device.account_id,
        device_id=device.id,
        grants=MappingProxyType({grant.bucket_id: grant for grant in device.grants}),
    )


def _is_shut_out(old: KnownDevice | None, new: KnownDevice | None) -> bool:
    """Whether somebody who signed in as the old device could not do so as the new one."""
    if old is None:
        return False
    return (
        new is None or old.password_hash != new.password_hash or (old.device.is_enabled and not new.device.is_enabled)
    )
