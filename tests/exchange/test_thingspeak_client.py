"""Asking a ThingSpeak server: where the key goes, and what each refusal says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest

from headwater.errors import BadRequest, ConfigurationError, HeadwaterError, NotAuthenticated, NotFound
from headwater.exchange import thingspeak_client
from headwater.exchange.thingspeak_client import PAUSES_S, Upstream

KEY = "SECRETSECRET1234"
GOOD = (
    200,
    b'{"channel":{"id":7,"name":"n","last_entry_id":2},'
    b'"feeds":[{"created_at":"2026-01-02T03:04:05Z","entry_id":2,"field1":21.50,"field2":null,"field3":"x"}]}',
)


class Asked(NamedTuple):
    target: str
    key: str | None


class FakeServer:
    """Gives the answers that a test puts there, the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.asked: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(Asked(self.path, self.headers.get("X-THINGSPEAKAPIKEY")))
                status, body = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def open_upstream(fake: FakeServer, pauses: list[float]) -> Iterator[Callable[..., Upstream]]:
    opened: list[Upstream] = []

    def open_one(key: str | None = KEY, url: str = "") -> Upstream:
        opened.append(Upstream(url or fake.url, 7, key, sleep=pauses.append))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def test_a_page(fake: FakeServer, open_upstream: Callable[..., Upstream]) -> None:
    fake.answers = [GOOD]
    page = open_upstream(url=f"{fake.url}/").page(0, 86_399, 8000)
    assert (page.channel["name"], page.channel["last_entry_id"]) == ("n", "2")
    assert page.rows == [
        {"created_at": "2026-01-02T03:04:05Z", "entry_id": "2", "field1": "21.50", "field2": None, "field3": "x"}
    ]
    (asked,) = fake.asked
    assert asked.key == KEY
    assert KEY not in asked.target
    assert asked.target.startswith("/channels/7/feeds.json?results=8000&")
    assert "start=1970-01-01+00%3A00%3A00&end=1970-01-01+23%3A59%3A59" in asked.target.replace("%20", "+")
    open_upstream(None).page(None, None, 1)
    assert fake.asked[1].key is None
    assert "start" not in fake.asked[1].target


@pytest.mark.parametrize(
    ("answer", "key", "kind", "text"),
    [
        ((404, b"{}"), KEY, NotFound, "has no channel 7"),
        ((400, b"-1"), None, NotAuthenticated, "channel 7 is private: give one of its keys with --key-file"),
        ((400, b"-1"), KEY, NotAuthenticated, "the key does not open channel 7"),
        ((200, b"-1"), None, NotAuthenticated, "channel 7 is private"),
        ((401, b"{}"), KEY, NotAuthenticated, "the key does not open"),
        ((301, b""), None, BadRequest, "answers 301"),
        ((200, b"<html>"), None, BadRequest, "does not answer as ThingSpeak does"),
        ((200, b"[]"), None, BadRequest, "does not answer as ThingSpeak does"),
        ((200, b'{"channel":1,"feeds":[]}'), None, BadRequest, "does not answer as ThingSpeak does"),
    ],
)
def test_what_another_try_would_not_change(
    fake: FakeServer,
    open_upstream: Callable[..., Upstream],
    pauses: list[float],
    answer: tuple[int, bytes],
    key: str | None,
    kind: type[HeadwaterError],
    text: str,
) -> None:
    fake.answers = [answer]
    with pytest.raises(kind, match=text) as raised:
        open_upstream(key).page(None, None, 1)
    assert KEY not in str(raised.value)
    assert (len(fake.asked), pauses) == (1, [])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(
    fake: FakeServer, open_upstream: Callable[..., Upstream], pauses: list[float], status: int
) -> None:
    fake.answers = [(status, b""), (status, b""), GOOD]
    assert len(open_upstream().page(None, None, 1).rows) == 1
    assert pauses == list(PAUSES_S[:2])
    fake.answers = [(status, b"")]
    with pytest.raises(HeadwaterError, match=rf"{status}.*the same command goes on") as raised:
        open_upstream().page(None, None, 1)
    assert KEY not in str(raised.value)


def test_a_server_that_is_not_there(open_upstream: Callable[..., Upstream], pauses: list[float]) -> None:
    with pytest.raises(HeadwaterError, match="cannot be reached") as raised:
        open_upstream(url="http://127.0.0.1:1").page(None, None, 1)
    assert KEY not in str(raised.value)
    assert pauses == list(PAUSES_S)


def test_an_endless_answer(
    fake: FakeServer, open_upstream: Callable[..., Upstream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thingspeak_client, "MAX_ANSWER_BYTES", 100)
    fake.answers = [(200, b"x" * 1000)]
    with pytest.raises(BadRequest, match="more than a channel can have"):
        open_upstream().page(None, None, 1)


@pytest.mark.parametrize(
    "url", ["api.thingspeak.com", "ftp://a", "http://", "http://u:secret@a", "http://[a", "https://a?b"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigurationError, match="give an address like https") as raised:
        Upstream(url, 7)
    assert "secret" not in str(raised.value)


def test_a_key_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match="characters that no key has"):
        Upstream("http://a", 7, "ключ")
