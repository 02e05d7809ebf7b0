"""ThingHTTP: requests that are kept, sealed, and sent when somebody asks: over REST, from the console, or by a rule.

Every method takes the account that asks; another account's request is `NotFound`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

import msgspec

from headwater.registry.keys import generate_api_key
from headwater.registry.sealing import Seal, SealBroken
from headwater.registry.thing_https import ThingHttp
from headwater.registry.worker import RegistryWorker
from headwater.services.access import Access
from headwater.services.checks import check_line
from headwater.services.entries import Entries
from headwater.services.outbound import OutboundAnswer, Sender
from headwater.services.parse_string import cut
from headwater.services.request_template import RequestTemplate, check_template, fill

MAX_NAME_LENGTH = 255
DATE_TIME = "datetime"
"""Stands for the time at which a request is sent."""


class ThingHttps:
    """The stored requests of every account.

    Args: `seal` keeps what they look like; `now` is the clock.
    """

    def __init__(
        self,
        worker: RegistryWorker,
        access: Access,
        entries: Entries,
        sender: Sender,
        seal: Seal,
        *,
        now: Callable[[], datetime],
        max_per_account: int = 1_000,
    ) -> None:
        self._worker = worker
        self._access = access
        self._entries = entries
        self._sender = sender
        self._seal = seal
        self._now = now
        self._max_per_account = max_per_account

    async def owned(self, account_id: int) -> list[ThingHttp]:
        """An account's, oldest first."""
        return await self._worker.read(lambda registry: registry.thing_https_of(account_id))

    async def get_owned(self, account_id: int, thing_http_id: int) -> ThingHttp:
        return await self._worker.read(lambda registry: registry.thing_http(account_id, thing_http_id))

    async def of_key(self, api_key: str) -> ThingHttp | None:
        """The one that this key runs."""
        return await self._worker.read(lambda registry: registry.thing_http_of_key(api_key))

    def template_of(self, thing_http: ThingHttp) -> RequestTemplate:
        """What it looks like. Raises SealBroken."""
        content = self._seal.open(thing_http.sealed, _label(thing_http.account_id))
        try:
            return msgspec.json.decode(content, type=RequestTemplate)
        except msgspec.DecodeError:
            raise SealBroken("this was kept by another version of Headwater: enter it anew") from None

    async def create(self, account_id: int, name: str, template: RequestTemplate) -> ThingHttp:
        """A new request with a key of its own. Raises `BadRequest`; `Conflict` when there are as many as may be."""
        check_line("name", name, MAX_NAME_LENGTH)
        sealed = self._sealed(account_id, template)
        return await self._worker.write(
            lambda registry: registry.add_thing_http(
                account_id, name=name, api_key=generate_api_key(), sealed=sealed, most=self._max_per_account
            )
        )

    async def update(self, account_id: int, thing_http_id: int, name: str, template: RequestTemplate) -> ThingHttp:
        """Put this in place of what there was; the key stays. Raises `BadRequest`."""
        check_line("name", name, MAX_NAME_LENGTH)
        sealed = self._sealed(account_id, template)
        return await self._worker.write(
            lambda registry: registry.update_thing_http(account_id, thing_http_id, name=name, sealed=sealed)
        )

    async def rotate_key(self, account_id: int, thing_http_id: int) -> ThingHttp:
        """A new key; the old one ends at once."""
        return await self._worker.write(
            lambda registry: registry.set_thing_http_key(account_id, thing_http_id, generate_api_key())
        )

    async def delete(self, account_id: int, thing_http_id: int) -> ThingHttp:
        """Returns it as it was."""
        return await self._worker.write(lambda registry: registry.remove_thing_http(account_id, thing_http_id))

    async def run(
        self, account_id: int, thing_http_id: int, replacements: Mapping[str, str] | None = None
    ) -> OutboundAnswer:
        """Send a stored request and give its answer, cut by its parse string if it has one: empty, then, when the
        answer has no such part. `replacements` fill places (`%%NAME%%`) beyond those that stand for fields.

        Raises `NotFound`, `SealBroken`, and `OutboundFailed` as `Sender.send` does.
        """
        thing_http = await self.get_owned(account_id, thing_http_id)
        template = self.template_of(thing_http)
        values = dict(replacements or {}) | await self._values(account_id, template)
        answer = await self._sender.send(account_id, fill(template, values))
        if not template.parse_string:
            return answer
        part = cut(answer.body.decode("utf-8", "replace"), template.parse_string)
        return replace(answer, body=(part or "").encode(), content_type="text/plain; charset=utf-8")

    def _sealed(self, account_id: int, template: RequestTemplate) -> bytes:
        check_template(template)
        return self._seal.close(msgspec.json.encode(template), _label(account_id))

    async def _values(self, account_id: int, template: RequestTemplate) -> dict[str, str]:
        """The last value of each field that is named; empty where the account may not read the channel."""
        values = {DATE_TIME: self._now().strftime("%Y-%m-%dT%H:%M:%SZ")}
        for name, (channel_id, number) in template.fields().items():
            values[name] = await self._last_value(account_id, channel_id, number)
        return values

    async def _last_value(self, account_id: int, channel_id: int, number: int) -> str:
        channel = self._access.channel(channel_id)
        if channel is None or number not in channel.settings.numbers:
            return ""
        if not self._access.may_read(channel, None, self._access.account(account_id)):
            return ""
        entries = await self._entries.newest_with(channel, number)
        return entries[-1].fields.get(number, "") if entries else ""


def _label(account_id: int) -> str:
    return f"thing_http of account {account_id}"
