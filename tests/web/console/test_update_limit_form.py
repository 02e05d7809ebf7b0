"""The form of a limit on updates."""

from __future__ import annotations

import pytest

from headwater.model.update_policy import INTERVAL_MAX_S, NO_LIMIT, TooFast, UpdatePolicy
from headwater.web.console.forms import Form
from headwater.web.console.update_limit_form import CHOICES, describe, parse_update_limit

BEFORE = UpdatePolicy(TooFast.QUEUE, 30)


def form(limit: str, interval_s: str = "") -> Form:
    return Form({"limit": [limit], "interval_s": [interval_s]})


@pytest.mark.parametrize("action", list(TooFast))
def test_each_choice(action: TooFast) -> None:
    assert parse_update_limit(form(action.value, "60"), BEFORE) == (UpdatePolicy(action, 60), {})
    assert action in CHOICES


@pytest.mark.parametrize("text", ["0", "", "-1", "1.5", "x", str(INTERVAL_MAX_S + 1), "9" * 300, "٣"])
def test_seconds_that_cannot_be(text: str) -> None:
    policy, errors = parse_update_limit(form("merge", text), BEFORE)
    assert policy == UpdatePolicy(TooFast.MERGE, 30)
    assert errors == {"interval_s": "Enter whole seconds, from 1 to 86,400 (a day)."}
    assert parse_update_limit(form("none", text), BEFORE) == (UpdatePolicy(TooFast.NONE, 30), {})


def test_the_accounts_and_nonsense() -> None:
    assert parse_update_limit(form("account", "0"), BEFORE) == (None, {})
    assert parse_update_limit(form("faster"), BEFORE)[1].keys() == {"limit"}
    assert parse_update_limit(Form(), BEFORE)[1].keys() == {"limit"}


def test_in_words() -> None:
    assert describe(NO_LIMIT) == "No limit"
    assert describe(UpdatePolicy(TooFast.MERGE, 3600)) == "Merge, one update every 3,600 s"
