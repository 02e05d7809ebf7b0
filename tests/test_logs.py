"""Logs: both forms, one line for each event whatever a peer sends, and no secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.logs import HIDDEN, HumanFormatter, JsonFormatter, Log, Trouble, configure_logging
from headwater.settings import LogFormat, LogLevel, LogSettings


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Logging belongs to the process: leave it as it was found."""
    root, own = logging.getLogger(), logging.getLogger("headwater")
    handlers, levels = root.handlers[:], (root.level, own.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    logging.captureWarnings(False)


def record(event: str, /, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("headwater.test", logging.INFO, __file__, 1, "%s", (event,), None)
    made.created, made.msecs = 1769860800.25, 250.0
    made.fields = fields
    return made


def human(event: str, /, **fields: object) -> str:
    return HumanFormatter(colour=False).format(record(event, **fields))


def as_json(event: str, /, **fields: object) -> dict[str, object]:
    line = JsonFormatter().format(record(event, **fields))
    assert "\n" not in line
    loaded: dict[str, object] = json.loads(line)
    return loaded


def test_the_human_form() -> None:
    assert human("client connected", client_id="porch", port=1883, note="two words", odd='a"b') == (
        '2026-01-31 12:00:00.250 INFO    client connected  client_id=porch port=1883 note="two words" odd="a\\"b"'
    )


def test_trouble_is_told_once() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(), stream)
    trouble = Trouble(Log("headwater.test"), "storing failed", "storing works again")
    trouble.end()
    assert not trouble.is_on
    for points in (1, 2, 3):
        trouble.begin(OSError("the disk is full"), points=points)
        assert trouble.is_on
    trouble.end()
    trouble.end()
    told = [line.split(maxsplit=3)[2:] for line in stream.getvalue().splitlines()]
    assert told == [["ERROR", 'storing failed  points=1 reason="the disk is full"'], ["INFO", "storing works again"]]


def test_the_human_form_in_colour() -> None:
    assert "\x1b[32mINFO   \x1b[0m hello" in HumanFormatter(colour=True).format(record("hello"))


def test_the_json_form() -> None:
    assert as_json("client connected", client_id="porch", port=1883, took_s=float("nan"), event="x") == {
        "time": "2026-01-31T12:00:00.250Z",
        "level": "info",
        "logger": "headwater.test",
        "event": "client connected",
        "client_id": "porch",
        "port": 1883,
        "took_s": "nan",
        "event_": "x",
    }


@given(st.text(), st.text())
def test_whatever_a_peer_sends_stays_on_one_line(event: str, value: str) -> None:
    for line in (human(event, client_id=value), JsonFormatter().format(record(event, client_id=value))):
        assert len(line.splitlines()) == 1
        assert all(character.isprintable() or character == " " for character in line if character < "\xa0")
        line.encode()


@given(st.text(), st.text())
def test_json_stays_json(name: str, value: str) -> None:
    made = record("e", **{name: value})
    assert isinstance(json.loads(JsonFormatter().format(made)), dict)


def test_a_forged_line_is_shown_escaped() -> None:
    assert r"x\n2026-01-31" in human("refused", client_id="x\n2026-01-31 12:00:00.000 INFO all is well")
    assert r"\x1b[2J" in human("refused", client_id="\x1b[2J")
    assert r"\u202e" in human("refused \u202e")


def test_a_long_value_is_cut() -> None:
    assert len(human("refused", topic="a" * 100_000)) < 2200
    assert "(100000 characters)" in human("refused", topic="a" * 100_000)


@pytest.mark.parametrize(
    "name", ["password", "mqtt_password", "token", "api_key", "key", "Authorization", "cookie", "secret"]
)
def test_fields_that_are_secret_by_name_are_hidden(name: str) -> None:
    assert as_json("e", **{name: "hunter2-hunter2"})[name] == HIDDEN


def test_fields_with_harmless_names_are_shown() -> None:
    assert as_json("e", keep_alive_s=5, monkey="x") == as_json("e") | {"keep_alive_s": 5, "monkey": "x"}


@pytest.mark.parametrize(
    "text",
    [
        "GET /update?api_key=SECRET&field1=5",
        "GET /feeds.json?access_token=SECRET",
        "password=SECRET",
        "Authorization: Bearer SECRETSECRET",
        "authorization: token SECRETSECRET",
        "{'authorization': 'SECRETSECRET'}",
        "signed in with token SECRET7SECRET",
        "channels/12/publish/AB12CD34EF56GH78",
        "channels/12/publish/fields/field1/AB12CD34EF56GH78",
    ],
)
def test_what_looks_like_a_secret_is_hidden_in_texts(text: str) -> None:
    for line in (human(text), human("e", topic=text), human("e", topic=text.encode())):
        assert "SECRET" not in line
        assert "AB12" not in line
        assert HIDDEN in line


@pytest.mark.parametrize("text", ["the token withdrawn by anna", "basic authentication refused", "key 17 removed"])
def test_sentences_about_secrets_are_no_secrets(text: str) -> None:
    assert human(text).endswith(text)


def test_long_numbers_are_no_secrets() -> None:
    assert "1769860800250000" in human("e", at="1769860800250000")


def test_configured_level_and_stream() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(LogLevel.INFO, LogFormat.JSON), stream)
    configure_logging(LogSettings(LogLevel.INFO, LogFormat.HUMAN), stream)  # replaces, does not add
    log = Log("headwater.test")
    log.debug("not this")
    log.info("100% of this", client_id="porch")
    log.warning("and this")
    logging.getLogger("somebody.else").info("not this: it is from a library")
    logging.getLogger("somebody.else").warning("but %s", "this", extra={"port": 1})
    lines = stream.getvalue().splitlines()
    assert [line[24:] for line in lines] == [
        "INFO    100% of this  client_id=porch",
        "WARNING and this",
        "WARNING but this  port=1",
    ]


@pytest.mark.parametrize("form", LogFormat)
def test_a_traceback_cannot_pass_for_an_event(form: LogFormat) -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(LogLevel.INFO, form), stream)
    log = Log("headwater.test")
    try:
        raise RuntimeError("first\n2026-01-31 12:00:00.000 INFO all is well api_key=SECRET")
    except RuntimeError:
        log.exception("failed", client_id="porch")
    lines = stream.getvalue().splitlines()
    assert "SECRET" not in stream.getvalue()
    if form is LogFormat.JSON:
        assert len(lines) == 1
        assert "RuntimeError: first" in json.loads(lines[0])["exception"]
    else:
        assert "failed  client_id=porch" in lines[0]
        assert len(lines) > 3
        assert all(line.startswith("  | ") for line in lines[1:])


def test_fields_cost_nothing_when_the_level_is_off() -> None:
    class Explosive:
        def __str__(self) -> str:
            raise AssertionError("was rendered")

    configure_logging(LogSettings(LogLevel.WARNING, LogFormat.HUMAN), io.StringIO())
    log = Log("headwater.test")
    log.info("quiet", value=Explosive())
    assert not log.is_enabled_for(logging.INFO)
