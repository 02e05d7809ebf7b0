"""The registry's content in memory, indexed by what clients show: names, client ids, keys. Decides nothing.

Secrets are indexed by their SHA-256, so that the time a look-up takes says nothing about them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from headwater.registry.entities import Account, AccountDevice, AccountToken, Channel, MqttDevice
from headwater.registry.keys import hash_secret
from headwater.registry.registry import Snapshot


class KnownDevice(NamedTuple):
    """A device with the SHA-256 of its password."""

    device: MqttDevice
    password_hash: bytes


class KnownAccountDevice(NamedTuple):
    """An account device with the hash of its credential."""

    device: AccountDevice
    credential_hash: str


class Directory:
    """Look things up in the dictionaries; change them through the methods only, which keep the indexes in
    step."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.accounts: dict[int, Account] = {}
        self.tokens: dict[bytes, AccountToken] = {}
        """By SHA-256."""
        self.channels: dict[int, Channel] = {}
        self.devices: dict[int, KnownDevice] = {}
        self.account_devices: dict[int, KnownAccountDevice] = {}
        self.retentions: dict[int, int] = {}
        """Seconds by bucket id, for buckets of any kind whose points are not kept for ever."""

        self.shares: dict[int, frozenset[int]] = {}
        """Channel id to the ids of the accounts that it is shared with; channels that are shared with nobody are not
        there."""

        self.account_ids: dict[str, int] = {}
        """By name."""
        self.user_keys: dict[bytes, int] = {}
        """SHA-256 of a user API key to account id; likewise below."""
        self.mqtt_keys: dict[bytes, int] = {}
        self.alerts_keys: dict[bytes, int] = {}
        self.write_keys: dict[bytes, int] = {}
        """SHA-256 of a write key to channel id; likewise below."""
        self.read_keys: dict[bytes, int] = {}
        self.device_ids: dict[str, int] = {}
        """By client id."""
        self.account_device_ids: dict[tuple[int, str], int] = {}
        """By account id and device id."""
        if snapshot is not None:
            self._fill(snapshot)

    def put_account(self, account: Account) -> None:
        if account.id in self.accounts:
            self.remove_account(account.id)
        self.accounts[account.id] = account
        self.account_ids[account.name] = account.id
        self.user_keys[hash_secret(account.user_api_key)] = account.id
        self.mqtt_keys[hash_secret(account.mqtt_api_key)] = account.id
        self.alerts_keys[hash_secret(account.alerts_api_key)] = account.id

    def remove_account(self, account_id: int) -> None:
        """Remove an account, but nothing that it owns or that is shared with it."""
        account = self.accounts.pop(account_id)
        del self.account_ids[account.name]
        del self.user_keys[hash_secret(account.user_api_key)]
        del self.mqtt_keys[hash_secret(account.mqtt_api_key)]
        self.alerts_keys.pop(hash_secret(account.alerts_api_key), None)

    def remove_token(self, token_id: int) -> None:
        for token_hash in [key for key, token in self.tokens.items() if token.id == token_id]:
            del self.tokens[token_hash]

    def put_channel(self, channel: Channel) -> None:
        if channel.id in self.channels:
            self._forget_channel(channel.id)
        self.channels[channel.id] = channel
        if channel.settings.retention_s is not None:
            self.retentions[channel.id] = channel.settings.retention_s
        for api_key in channel.api_keys:
            index = self.write_keys if api_key.allows_write else self.read_keys
            index[hash_secret(api_key.key)] = channel.id

    def put_shares(self, channel_id: int, account_ids: frozenset[int]) -> None:
        if account_ids:
            self.shares[channel_id] = account_ids
        else:
            self.shares.pop(channel_id, None)

    def unshare_all(self, account_id: int) -> None:
        """Nothing is shared with an account any more."""
        for channel_id, readers in list(self.shares.items()):
            self.put_shares(channel_id, readers - {account_id})

    def remove_channel(self, channel_id: int) -> list[int]:
        """Remove a channel, what it is shared with and the grants on it; returns the ids of the devices that had
        one."""
        self._forget_channel(channel_id)
        self.shares.pop(channel_id, None)
        holders = [
            known
            for known in self.devices.values()
            if any(grant.bucket_id == channel_id for grant in known.device.grants)
        ]
        for device, password_hash in holders:
            kept = tuple(grant for grant in device.grants if grant.bucket_id != channel_id)
            self.devices[device.id] = KnownDevice(replace(device, grants=kept), password_hash)
        return [device.id for device, _ in holders]

    def put_device(self, device: MqttDevice, password_hash: bytes) -> None:
        self.devices[device.id] = KnownDevice(device, password_hash)
        self.device_ids[device.client_id] = device.id  # client ids never change

    def remove_device(self, device_id: int) -> None:
        del self.device_ids[self.devices.pop(device_id).device.client_id]

    def account_device_named(self, account_name: str | None, device_id: str) -> KnownAccountDevice | None:
        """The device of this id in the account of this name."""
        account_id = self.account_ids.get(account_name or "")
        id_ = None if account_id is None else self.account_device_ids.get((account_id, device_id))
        return None if id_ is None else self.account_devices[id_]

    def put_account_device(self, device: AccountDevice, credential_hash: str) -> None:
        self.account_devices[device.id] = KnownAccountDevice(device, credential_hash)
        self.account_device_ids[device.account_id, device.device_id] = device.id  # device ids never change

    def remove_account_device(self, id_: int) -> None:
        device = self.account_devices.pop(id_).device
        del self.account_device_ids[device.account_id, device.device_id]

    def _fill(self, snapshot: Snapshot) -> None:
        for account in snapshot.accounts:
            self.put_account(account)
        for token, token_hash in snapshot.tokens:
            self.tokens[token_hash] = token
        self.retentions.update(snapshot.retentions)
        for channel in snapshot.channels:
            self.put_channel(channel)
        for channel_id, readers in snapshot.shares:
            self.put_shares(channel_id, readers)
        for device, password_hash in snapshot.devices:
            self.put_device(device, password_hash)
        for account_device, credential_hash in snapshot.account_devices:
            self.put_account_device(account_device, credential_hash)

    def _forget_channel(self, channel_id: int) -> None:
        self.retentions.pop(channel_id, None)
        for api_key in self.channels.pop(channel_id).api_keys:
            index = self.write_keys if api_key.allows_write else self.read_keys
            del index[hash_secret(api_key.key)]
