"""Sessions, form tokens and origins, without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import ConfigurationError, NotAuthorized
from headwater.registry.entities import Account
from headwater.services.access import Access
from headwater.web.console.csrf import Csrf, is_own_origin
from headwater.web.console.options import ConsoleOptions
from headwater.web.console.sessions import Sessions

SECRET = b"s" * 32
ACCOUNT = Account(7, "ada", False, "U" * 16, "M" * 16, "UTC", datetime(2026, 1, 1, tzinfo=UTC), 1)


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def access() -> Access:
    access = Access()
    access.put_account(ACCOUNT)
    return access


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(access: Access, clock: Clock) -> Sessions:
    return Sessions(SECRET, 3600, access, clock)


def test_a_session_stands_for_its_account(sessions: Sessions) -> None:
    session = sessions.open(ACCOUNT)
    assert sessions.read(sessions.seal(session)) == session
    assert sessions.account_of(session) == ACCOUNT


def test_a_session_runs_out(sessions: Sessions, clock: Clock) -> None:
    session = sessions.open(ACCOUNT)
    clock.now_s += 3599
    assert sessions.account_of(session) == ACCOUNT
    clock.now_s += 1
    assert sessions.account_of(session) is None


def test_a_new_password_ends_a_session(sessions: Sessions, access: Access) -> None:
    session = sessions.open(ACCOUNT)
    access.put_account(replace(ACCOUNT, session_epoch=2))
    assert sessions.account_of(session) is None


def test_a_removed_account_ends_a_session(sessions: Sessions, access: Access) -> None:
    session = sessions.open(ACCOUNT)
    access.drop_account(ACCOUNT.id)
    assert sessions.account_of(session) is None


def test_signing_out_ends_one_session(sessions: Sessions) -> None:
    here, there = sessions.open(ACCOUNT), sessions.open(ACCOUNT)
    sessions.close(here)
    assert sessions.account_of(here) is None
    assert sessions.account_of(there) == ACCOUNT


def test_another_servers_session_is_none(sessions: Sessions, access: Access, clock: Clock) -> None:
    foreign = Sessions(b"t" * 32, 3600, access, clock)
    assert sessions.read(foreign.seal(foreign.open(ACCOUNT))) is None


@given(st.text())
def test_any_text_as_a_cookie_is_no_session(text: str) -> None:
    assert Sessions(SECRET, 3600, Access(), Clock()).read(text) is None


def test_a_changed_cookie_is_no_session(sessions: Sessions) -> None:
    sealed = sessions.seal(sessions.open(ACCOUNT))
    for place in range(len(sealed) - 1):  # the last character of base64 has bits that mean nothing
        other = "A" if sealed[place] != "A" else "B"
        assert sessions.read(sealed[:place] + other + sealed[place + 1 :]) is None


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        ConsoleOptions(secret=b"short")


def test_tokens_belong_to_one_binding_and_one_server() -> None:
    csrf = Csrf(SECRET)
    csrf.check({}, "a", csrf.token("a"))
    for binding, token in [
        ("a", csrf.token("b")),
        ("a", Csrf(b"t" * 32).token("a")),
        ("a", ""),
        ("a", "é"),
        ("", csrf.token("")),
    ]:
        with pytest.raises(NotAuthorized):
            csrf.check({}, binding, token)


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"host": "a:8080", "origin": "http://a:8080"}, True),
        ({"host": "a", "origin": "https://a"}, True),
        ({"host": "A", "origin": "http://a"}, True),
        ({"host": "a", "origin": "http://b"}, False),
        ({"host": "a", "origin": "http://a:81"}, False),
        ({"host": "a", "origin": "null"}, False),
        ({"host": "a", "origin": "http://[a"}, False),
        ({"host": "a", "origin": ""}, False),
        ({"host": "a", "origin": "http://a", "sec-fetch-site": "cross-site"}, False),
    ],
)
def test_origins(headers: dict[str, str], is_own: bool) -> None:
    assert is_own_origin(headers) is is_own
