"""Who calls, and what of a channel they may see. Renders nothing."""

from __future__ import annotations

import re

from headwater.dialects.thingspeak.endpoint import REFUSED_READ, REFUSED_WRITE, Call, KeyRefused
from headwater.errors import NotAuthenticated, NotFound
from headwater.registry.entities import Account, Channel
from headwater.services.access import Access

_CHANNEL_ID = re.compile(r"[0-9]{1,18}")


class Callers:
    """Answers for a call by the keys that it brings."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def channel(self, call: Call) -> Channel:
        """The channel of the path. Raises NotFound."""
        channel = self._find(call)
        if channel is None:
            raise NotFound("There is no channel with this id.")
        return channel

    def _find(self, call: Call) -> Channel | None:
        channel_id = call.path["channel_id"]
        return self._access.channel(int(channel_id)) if _CHANNEL_ID.fullmatch(channel_id) else None

    def readable(self, call: Call) -> Channel:
        """The channel of the path. Raises NotFound, and KeyRefused when this caller may not read it."""
        channel = self.channel(call)
        if not self._access.may_read(channel, call.key, self.account(call)):
            raise KeyRefused(REFUSED_READ)
        return channel

    def writable(self, call: Call) -> Channel:
        """The channel that the call's write key belongs to. Raises KeyRefused."""
        channel = self._access.channel_of_write_key(call.key) if call.key else None
        if channel is None:
            raise KeyRefused(REFUSED_WRITE)
        return channel

    def changeable(self, call: Call) -> Channel:
        """The channel of the path, of which the call brings the write key, or a key of its owner's. Raises
        NotAuthenticated without any key, and NotFound in the same words whether there is such a channel."""
        if not call.key:
            raise NotAuthenticated("Please send the channel's write key, or the User API Key of its owner, as api_key.")
        channel = self._find(call)
        if channel is not None:
            owner = self.account(call)
            if owner is not None and owner.id == channel.account_id:
                return channel
            if self._access.channel_of_write_key(call.key) == channel:
                return channel
        raise NotFound(
            "There is no channel with this id that this key may change: send its write key, or the User API Key of its "
            "owner."
        )

    def owned(self, call: Call) -> Channel:
        """The channel of the path, of which the call brings a key of its owner's. Raises NotAuthenticated without one
        of any account, and NotFound in the same words whether there is such a channel."""
        account = self.signed_in(call)
        channel = self._find(call)
        if channel is None or channel.account_id != account.id:
            raise NotFound("This account has no channel with this id.")
        return channel

    def account(self, call: Call) -> Account | None:
        """The account whose User API Key or token the call brings, or None."""
        return self._access.account_of_key(call.key) if call.key else None

    def signed_in(self, call: Call) -> Account:
        """As `account`. Raises NotAuthenticated without one."""
        account = self.account(call)
        if account is None:
            raise NotAuthenticated("Please provide the User API Key as api_key; it stands on My Profile.")
        return account
