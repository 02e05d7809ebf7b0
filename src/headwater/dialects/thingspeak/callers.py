"""Who calls, and what of a channel they may see. Renders nothing."""

from __future__ import annotations

import re

from headwater.dialects.thingspeak.endpoint import Call
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
        channel_id = call.path["channel_id"]
        channel = self._access.channel(int(channel_id)) if _CHANNEL_ID.fullmatch(channel_id) else None
        if channel is None:
            raise NotFound("There is no channel with this id.")
        return channel

    def readable(self, call: Call) -> Channel | None:
        """The channel of the path, or None when this caller may not read it. Raises NotFound."""
        channel = self.channel(call)
        return channel if self._access.may_read(channel, call.key, self.account(call)) else None

    def writable(self, call: Call) -> Channel | None:
        """The channel that the call's write key belongs to, or None."""
        return self._access.channel_of_write_key(call.key) if call.key else None

    def account(self, call: Call) -> Account | None:
        """The account whose User API Key or token the call brings, or None."""
        return self._access.account_of_key(call.key) if call.key else None

    def signed_in(self, call: Call) -> Account:
        """As `account`. Raises NotAuthenticated without one."""
        account = self.account(call)
        if account is None:
            raise NotAuthenticated("Please provide the User API Key as api_key; it stands on My Profile.")
        return account
