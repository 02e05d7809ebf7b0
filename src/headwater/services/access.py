"""Who may do what, answered from memory on the event loop's thread. Knows no database and no wire format.

Filled from a registry snapshot (`load`) and kept in step by the services, which call `put_*` and `drop_*`
once the registry has committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from headwater.model.principal import ANONYMOUS, Principal, PrincipalKind
from headwater.registry.directory import Directory
from headwater.registry.entities import Account, AccountDevice, AccountToken, Channel, MqttDevice
from headwater.registry.passwords import Passwords
from headwater.registry.registry import Snapshot
from headwater.services.credentials import CredentialCheck
from headwater.services.mqtt_sign_in import MqttSignIn, hash_of, principal_of_device

_NONE: frozenset[int] = frozenset()
_NAMED_KINDS = frozenset(kind.value for kind in PrincipalKind)


@dataclass(frozen=True, slots=True)
class AccessChange:
    """What a change touched: rights that were worked out for these are to be worked out anew."""

    device_ids: frozenset[int] = _NONE
    bucket_ids: frozenset[int] = _NONE
    account_ids: frozenset[int] = _NONE
    account_device_ids: frozenset[int] = _NONE
    ends_sessions: bool = False
    """Credentials were withdrawn: whoever is connected as one of these devices or accounts must sign in
    again."""

    def names(self, principal: Principal) -> bool:
        """Whether the rights of this very actor are touched. A device is not its account: when a token is withdrawn,
        the account's devices stay."""
        if principal.kind is PrincipalKind.DEVICE:
            return principal.device_id in self.device_ids
        if principal.kind is PrincipalKind.ACCOUNT_DEVICE:
            return principal.account_device_id in self.account_device_ids
        return principal.account_id in self.account_ids


class Access:
    """Answers from memory. `allow_topic_keys` lets clients without credentials in, for keys in topics;
    `allow_anonymous` gives them a topic tree of their own besides; `passwords` checks the credentials that people chose
    for account devices (its owner closes it), and without it those devices stay out."""

    def __init__(
        self, *, allow_topic_keys: bool = True, allow_anonymous: bool = False, passwords: Passwords | None = None
    ) -> None:
        self._listeners: list[Callable[[AccessChange], None]] = []
        self._known = Directory()
        self._sign_in = MqttSignIn(
            lambda: self._known,
            CredentialCheck(passwords),
            allow_topic_keys=allow_topic_keys,
            allow_anonymous=allow_anonymous,
        )

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
        key_hash = hash_of(key)
        account = _follow(self._known.user_keys.get(key_hash), self._known.accounts)
        if account is None and (token := self._known.tokens.get(key_hash)) is not None:
            account = self._known.accounts[token.account_id]
        return account

    def account_of_alerts_key(self, key: str) -> Account | None:
        """The account of a key for alerts; no account has an empty one."""
        return _follow(self._known.alerts_keys.get(hash_of(key)), self._known.accounts) if key else None

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

    def channels(self) -> list[Channel]:
        """Of all accounts."""
        return list(self._known.channels.values())

    def retention_s(self, bucket_id: int) -> int | None:
        """For how long the points of a bucket, of whatever kind, are kept; None for ever."""
        return self._known.retentions.get(bucket_id)

    def retentions(self) -> dict[int, int]:
        """The retention of every bucket that has one."""
        return dict(self._known.retentions)

    def channel_of_write_key(self, key: str) -> Channel | None:
        return _follow(self._known.write_keys.get(hash_of(key)), self._known.channels)

    def channels_of(self, account_id: int) -> list[Channel]:
        """An account's channels, oldest first."""
        return _owned(self._known.channels.values(), account_id)

    def shared_with(self, channel_id: int) -> frozenset[int]:
        """The accounts, by id, that a channel's owner lets read it."""
        return self._known.shares.get(channel_id, _NONE)

    def channels_shared_with(self, account_id: int) -> list[Channel]:
        """The channels of others that an account may read, oldest first."""
        return [
            self._known.channels[id_] for id_, readers in sorted(self._known.shares.items()) if account_id in readers
        ]

    def may_view(self, channel: Channel, account: Account | None) -> bool:
        """Whether somebody may read a channel for who they are: it is public, or theirs, or shared with them."""
        if channel.settings.is_public:
            return True
        return account is not None and (account.id == channel.account_id or account.id in self.shared_with(channel.id))

    def may_read(self, channel: Channel, key: str | None, account: Account | None = None) -> bool:
        """Whether a channel may be read: by this account (`may_view`), or by whoever shows one of the channel's keys
        (read or write), or the user API key or a token of an account that may."""
        if self.may_view(channel, account):
            return True
        return key is not None and (self.opens(channel, key) or self.may_view(channel, self.account_of_key(key)))

    def opens(self, channel: Channel, key: str) -> bool:
        """Whether a text is one of a channel's keys, to read or to write."""
        key_hash = hash_of(key)
        return channel.id in (self._known.read_keys.get(key_hash), self._known.write_keys.get(key_hash))

    # MQTT

    def device(self, device_id: int) -> MqttDevice | None:
        known = self._known.devices.get(device_id)
        return None if known is None else known.device

    def devices_of(self, account_id: int) -> list[MqttDevice]:
        """An account's MQTT devices, oldest first."""
        return _owned((known.device for known in self._known.devices.values()), account_id)

    def account_device(self, id_: int) -> AccountDevice | None:
        known = self._known.account_devices.get(id_)
        return None if known is None else known.device

    def account_devices_of(self, account_id: int) -> list[AccountDevice]:
        """An account's account devices, oldest first."""
        return _owned((known.device for known in self._known.account_devices.values()), account_id)

    def authenticate_mqtt(
        self, client_id: str, username: str | None, password: bytes | None
    ) -> Principal | Awaitable[Principal]:
        """Who signs in. The first rule that fits decides:

        1. the client id of an MQTT device, unless rule 2 fits as well and the user name is not that device's: user
           name and password must be the device's, and the device be enabled;
        2. an account's name as the user name and one of its device ids as the client id: the password must be that
           account device's, and the device be enabled; or it is a token of that account, as in rule 3;
        3. the password is an account token: that account, with all its rights;
        4. the password is an account's MQTT API key, and there is a user name: what keys in topics allow. The same
           for any other password of a key's form where `allow_topic_keys`, unless the user name is an MQTT device's:
           the key gives no right of its own;
        5. no password, where `allow_anonymous`: the anonymous topic tree, and what keys in topics allow;
        6. no password, where `allow_topic_keys`: what keys in topics allow.

        So nobody can keep an MQTT device out by giving its client id to a device of theirs, nor the other way round.

        Answers an awaitable where a slow hash must decide (rule 2, a credential that somebody chose, not seen since the
        start or since it was changed); it must be awaited.

        Raises, or the awaitable raises: `SignInFailed`, in the same words for every reason; `TooManyRequests` when too
        many wait for the slow hash already.
        """
        return self._sign_in.authenticate(client_id, username, password)

    def authenticate_certificate(self, client_id: str, common_name: str) -> Principal:
        """Who signs in with a certificate that has been verified against the operator's CA: the device whose client id
        its common name is; an account device is named `account/device-id`. The client id must be that device's, and the
        device be enabled. Raises: `SignInFailed`."""
        return self._sign_in.authenticate_certificate(client_id, common_name)

    def renewed(self, principal: Principal) -> Principal | None:
        """The same actor with the rights of now; None when its device is disabled or gone, or its account is
        gone."""
        device: MqttDevice | AccountDevice | None
        if principal.device_id is not None:
            device = self.device(principal.device_id)
        elif principal.account_device_id is not None:
            device = self.account_device(principal.account_device_id)
        else:
            is_gone = principal.account_id is not None and self.account(principal.account_id) is None
            return None if is_gone else principal
        return principal_of_device(device) if device is not None and device.is_enabled else None

    def principal_of(self, key: str) -> Principal | None:
        """The actor of this name (`Principal.key`) with the rights of now; None when it may not be here any more."""
        kind, _, number = key.partition(":")
        match PrincipalKind(kind) if kind in _NAMED_KINDS else None:
            case PrincipalKind.DEVICE:
                return self.renewed(Principal(PrincipalKind.DEVICE, device_id=int(number)))
            case PrincipalKind.ACCOUNT_DEVICE:
                return self.renewed(Principal(PrincipalKind.ACCOUNT_DEVICE, account_device_id=int(number)))
            case PrincipalKind.ACCOUNT:
                return self.renewed(Principal(PrincipalKind.ACCOUNT, account_id=int(number)))
            case PrincipalKind.ANONYMOUS if self._sign_in.allows_anonymous:
                return ANONYMOUS
            case _:
                return None

    def is_admin(self, principal: Principal) -> bool:
        """Whether this is an administrator in person: a device of an administrator's is none."""
        if principal.kind is not PrincipalKind.ACCOUNT or principal.account_id is None:
            return False
        account = self.account(principal.account_id)
        return account is not None and account.is_admin

    # Kept in step by the services

    def load(self, snapshot: Snapshot) -> None:
        """Take over a snapshot in place of what is known, and announce what differs."""
        old, new = self._known, Directory(snapshot)
        self._known = new
        changed_devices = _differing(old.devices, new.devices)
        changed_account_devices = _differing(old.account_devices, new.account_devices)
        lost_tokens = old.tokens.keys() - new.tokens.keys()
        ends_sessions = (
            bool(lost_tokens)
            or not old.accounts.keys() <= new.accounts.keys()
            or any(_is_shut_out(old.devices.get(id_), new.devices.get(id_)) for id_ in changed_devices)
            or any(
                _is_shut_out(old.account_devices.get(id_), new.account_devices.get(id_))
                for id_ in changed_account_devices
            )
        )
        self._announce(
            AccessChange(
                device_ids=changed_devices,
                bucket_ids=_differing(old.channels, new.channels) | _differing(old.shares, new.shares),
                account_ids=_differing(old.accounts, new.accounts)
                | {old.tokens[token_hash].account_id for token_hash in lost_tokens},
                account_device_ids=changed_account_devices,
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
        account_devices = self.account_devices_of(account_id)
        for device in devices:
            self._known.remove_device(device.id)
        for account_device in account_devices:
            self._known.remove_account_device(account_device.id)
        for channel in channels:
            self._known.remove_channel(channel.id)
        for token in self.tokens_of(account_id):
            self._known.remove_token(token.id)
        self._known.unshare_all(account_id)
        self._known.remove_account(account_id)
        self._announce(
            AccessChange(
                device_ids=frozenset(device.id for device in devices),
                bucket_ids=frozenset(channel.id for channel in channels),
                account_ids=frozenset({account_id}),
                account_device_ids=frozenset(device.id for device in account_devices),
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

    def put_shares(self, channel_id: int, account_ids: frozenset[int]) -> None:
        """A channel is shared with these accounts, and with no others."""
        self._known.put_shares(channel_id, account_ids)
        self._announce(AccessChange(bucket_ids=frozenset({channel_id})))

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

    def put_account_device(self, device: AccountDevice, credential_hash: str | None = None) -> None:
        """An account device has changed, or (with the hash of its credential) is new or has got a new one."""
        old = self._known.account_devices.get(device.id)
        if credential_hash is None:
            credential_hash = self._known.account_devices[device.id].credential_hash
        self._known.put_account_device(device, credential_hash)
        ends_sessions = _is_shut_out(old, self._known.account_devices[device.id])
        self._announce(AccessChange(account_device_ids=frozenset({device.id}), ends_sessions=ends_sessions))

    def drop_account_device(self, id_: int) -> None:
        """An account device is gone."""
        self._known.remove_account_device(id_)
        self._announce(AccessChange(account_device_ids=frozenset({id_}), ends_sessions=True))

    def announce(self, change: AccessChange) -> None:
        """Tell everybody of a change that is not of rights, but that what was resolved rests on all the same."""
        self._announce(change)

    def _announce(self, change: AccessChange) -> None:
        for listener in self._listeners:
            listener(change)


class _Owned(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def account_id(self) -> int: ...


class _Switched(Protocol):
    @property
    def is_enabled(self) -> bool: ...


_KnownDevice: TypeAlias = tuple[_Switched, bytes | str]
"""A device of either kind, with the hash of its secret."""

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


def _is_shut_out(old: _KnownDevice | None, new: _KnownDevice | None) -> bool:
    """Whether somebody who signed in as the old device could not do so as the new one."""
    if old is None:
        return False
    return new is None or old[1] != new[1] or (old[0].is_enabled and not new[0].is_enabled)
