"""A ThingSpeak server, asked for a channel's entries: one page at a time, with the errors in words.

The key goes in a header, so that it stands in no address, log or error. Knows nothing of where entries go.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from headwater import __version__
from headwater.errors import BadRequest, ConfigurationError, HeadwaterError, NotAuthenticated, NotFound

KEY_HEADER = "X-THINGSPEAKAPIKEY"
TIMEOUT_S = 60.0
PAUSES_S = (1.0, 4.0, 15.0)
"""Before each new try, when the server cannot be reached, has too much to do, or wants fewer requests."""
MAX_ANSWER_BYTES = 128 * 2**20
"""Far above 8000 of the largest entries."""
_REFUSED = b"-1"
"""How ThingSpeak says that a key does not open a channel."""

Row = Mapping[str, str | None]
"""One entry: texts by the names that the JSON gives them."""


class Page(NamedTuple):
    """An answer: what the channel is, and some of its entries, the oldest first."""

    channel: Row
    rows: list[Row]


class Upstream:
    """One channel on a server.

    Args: `url` is the server's address; `key` opens a private channel; `sleep` waits before a new try.
    """

    def __init__(
        self, url: str, channel_id: int, key: str | None = None, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        _check_address(url)
        self.url = url.rstrip("/")
        self.channel_id = channel_id
        self._has_key = key is not None
        self._sleep = sleep
        headers = {"User-Agent": f"headwater/{__version__}"} | ({KEY_HEADER: key} if key is not None else {})
        try:
            self._client = httpx.Client(headers=headers, timeout=TIMEOUT_S)
        except UnicodeEncodeError:
            raise ConfigurationError(
                "the key has characters that no key has: copy it from the channel's page"
            ) from None

    def close(self) -> None:
        self._client.close()

    def page(self, start_s: int | None, end_s: int | None, results: int) -> Page:
        """The newest `results` of the entries from `start_s` up to `end_s`, both in seconds since 1970.

        Raises: NotFound, NotAuthenticated, BadRequest for what is no answer of ThingSpeak's, HeadwaterError when there
        is none.
        """
        query: dict[str, str] = {"results": str(results), "location": "true", "status": "true", "metadata": "true"}
        for name, at_s in (("start", start_s), ("end", end_s)):
            if at_s is not None:
                query[name] = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
        return self._read(self._ask(query))

    def _ask(self, query: Mapping[str, str]) -> bytes:
        """The body of a good answer, after some tries."""
        found = self._try(query)
        for pause_s in PAUSES_S:
            if isinstance(found, bytes):
                break
            self._sleep(pause_s)
            found = self._try(query)
        if isinstance(found, str):
            raise HeadwaterError(f"{self.url} {found}; the same command goes on where this stopped")
        return found

    def _try(self, query: Mapping[str, str]) -> bytes | str:
        """A body, or why there is none this time. Raises for what another try would not change."""
        body = bytearray()
        path = f"{self.url}/channels/{self.channel_id}/feeds.json"
        try:
            with self._client.stream("GET", path, params=query) as answer:
                status = answer.status_code
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise BadRequest(
                            f"{self.url} answers more than a channel can have: is it ThingSpeak's address?"
                        )
        except httpx.TimeoutException:
            return f"did not answer within {TIMEOUT_S:.0f} s"
        except (httpx.TransportError, httpx.DecodingError) as error:
            return f"cannot be reached ({str(error) or type(error).__name__})"
        if status == 429:
            return "wants fewer requests for a while (429)"
        if status >= 500:
            return f"has a problem ({status})"
        self._check(status, bytes(body))
        return bytes(body)

    def _check(self, status: int, body: bytes) -> None:
        if status == 404:
            raise NotFound(f"{self.url} has no channel {self.channel_id}")
        if status in (400, 401, 403) or body.strip() == _REFUSED:
            if self._has_key:
                raise NotAuthenticated(f"the key does not open channel {self.channel_id}: give one of its own keys")
            raise NotAuthenticated(
                f"channel {self.channel_id} is private: give one of its keys with --key-file, --key or "
                "THINGSPEAK_API_KEY"
            )
        if status != 200:
            raise BadRequest(f"{self.url} answers {status}: is it ThingSpeak's address (with https)?")

    def _read(self, body: bytes) -> Page:
        try:
            # Numbers stay the texts that they are: 21.50 must not become 21.5.
            answer = json.loads(body, parse_int=str, parse_float=str, parse_constant=str)
            return Page(_texts(answer["channel"]), [_texts(row) for row in answer["feeds"]])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise BadRequest(f"{self.url} does not answer as ThingSpeak does: is it its address?") from None


def _check_address(url: str) -> None:
    try:
        address = httpx.URL(url if urlsplit(url).hostname else "")  # only one of the two knows brackets
    except (ValueError, httpx.InvalidURL):
        address = httpx.URL("")
    if address.scheme not in ("http", "https") or not address.host or address.userinfo or address.query:
        # Not repeated: there may be a password in it.
        raise ConfigurationError("--url: give an address like https://api.thingspeak.com")


def _texts(values: Mapping[str, Any]) -> Row:
    return {name: text for name, text in values.items() if text is None or isinstance(text, str)}
