"""Limits on updates as their owners set them, answered from memory. What a limit does is `update_limits.py`'s business.

A channel has its own limit or its account's. Whoever resolved something with an older one is told through `Access`, as
of a change of rights.
"""

from __future__ import annotations

from collections.abc import Iterable

from headwater.errors import BadRequest
from headwater.model.update_policy import INTERVAL_MAX_S, INTERVAL_MIN_S, NO_LIMIT, UpdatePolicy
from headwater.registry.entities import Channel
from headwater.registry.update_policies import KnownUpdatePolicies
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access, AccessChange


class UpdatePolicies:
    """Everybody's limits; call `load` before anything else."""

    def __init__(self, worker: RegistryWorker, access: Access) -> None:
        self._worker = worker
        self._access = access
        self._known = KnownUpdatePolicies({}, {})
        access.on_change(self._forget_gone)

    async def load(self) -> None:
        """Take over what the registry has, and announce the channels for which something else applies now."""
        before = self._known
        self._known = await self._worker.read(lambda registry: registry.update_policies())
        self._announce(
            channel.id
            for channel in self._access.channels()
            if _effective(before, channel) != _effective(self._known, channel)
        )

    def of_account(self, account_id: int) -> UpdatePolicy:
        """What applies to the account's channels that have none of their own."""
        return self._known.of_accounts.get(account_id, NO_LIMIT)

    def of_channel(self, channel_id: int) -> UpdatePolicy | None:
        """The channel's own; None where its account's applies."""
        return self._known.of_channels.get(channel_id)

    def effective(self, channel: Channel) -> UpdatePolicy:
        """What applies to a channel."""
        return _effective(self._known, channel)

    async def set_for_account(self, account_id: int, policy: UpdatePolicy) -> None:
        """Raises BadRequest for an interval that cannot be."""
        _check(policy)

        def remember(_: None) -> None:
            self._known.of_accounts[account_id] = policy
            self._announce(channel.id for channel in self._access.channels_of(account_id))

        await self._worker.write(lambda registry: registry.set_account_update_policy(account_id, policy), remember)

    async def set_for_channel(self, account_id: int, channel_id: int, policy: UpdatePolicy | None) -> None:
        """None: the account's applies. Raises BadRequest, and NotFound for a channel that is not the account's."""
        if policy is not None:
            _check(policy)

        def remember(_: None) -> None:
            if policy is None:
                self._known.of_channels.pop(channel_id, None)
            elif self._access.channel(channel_id) is not None:
                self._known.of_channels[channel_id] = policy
            self._announce([channel_id])

        await self._worker.write(
            lambda registry: registry.set_channel_update_policy(account_id, channel_id, policy), remember
        )

    def _announce(self, channel_ids: Iterable[int]) -> None:
        changed = frozenset(channel_ids)
        if changed:
            self._access.announce(AccessChange(bucket_ids=changed))

    def _forget_gone(self, change: AccessChange) -> None:
        for channel_id in change.bucket_ids:
            if self._access.channel(channel_id) is None:
                self._known.of_channels.pop(channel_id, None)
        for account_id in change.account_ids:
            if self._access.account(account_id) is None:
                self._known.of_accounts.pop(account_id, None)


def _effective(known: KnownUpdatePolicies, channel: Channel) -> UpdatePolicy:
    own = known.of_channels.get(channel.id)
    return known.of_accounts.get(channel.account_id, NO_LIMIT) if own is None else own


def _check(policy: UpdatePolicy) -> None:
    if not INTERVAL_MIN_S <= policy.interval_s <= INTERVAL_MAX_S:
        raise BadRequest(f"interval_s must be {INTERVAL_MIN_S} to {INTERVAL_MAX_S} (a day) whole seconds")
