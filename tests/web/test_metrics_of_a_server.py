"""`GET /metrics` of a running server, line by line, as a strict reader of the text format takes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from headwater.broker.figures import DROP_LIMITS, END_REASONS
from headwater.mqtt.encode import render_packet
from headwater.mqtt.packets import Connect
from server import ADMIN_TOKEN, Answer, Server, running_server

TOKEN = "the-operators-own-token"
VALUE = r'[^\\"\n]|\\\\|\\"|\\n'
LABEL = rf'[a-zA-Z_][a-zA-Z0-9_]*="(?:{VALUE})*"'
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?|Inf|NaN)"
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? ({NUMBER})")
HELP = re.compile(rf"# HELP ({NAME}) ((?:[^\\\n]|\\\\|\\n)+)")
TYPE = re.compile(rf"# TYPE ({NAME}) (counter|gauge)")


@dataclass
class Family:
    """A metric: its type, and its values by the text of their labels."""

    type: str
    values: dict[str, float] = field(default_factory=dict)


def parse_strictly(text: str) -> dict[str, Family]:
    """Families by name. Fails for any line that is out of form or out of place, and for what comes twice."""
    assert text.endswith("\n")
    families: dict[str, Family] = {}
    described = ""
    for line in text[:-1].split("\n"):
        if (found := HELP.fullmatch(line)) is not None:
            described = found[1]
            assert described not in families, f"described twice: {line}"
        elif (found := TYPE.fullmatch(line)) is not None:
            assert found[1] == described, f"without a description: {line}"
            families[described] = Family(found[2])
        else:
            found = SAMPLE.fullmatch(line)
            assert found is not None, f"not in the format: {line!r}"
            assert found[1] == described, f"not under its own description: {line}"
            values = families[described].values
            assert (found[2] or "") not in values, f"twice: {line}"
            values[found[2] or ""] = float(found[3])
    for name, family in families.items():
        assert name.endswith("_total") == (family.type == "counter"), name
        assert all(value >= 0 for value in family.values.values()), name
    return families


@pytest.fixture(scope="module")
def fresh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that nobody has connected to."""
    with running_server(tmp_path_factory.mktemp("metrics") / "data", HEADWATER_WEB_METRICS_TOKEN=TOKEN) as running:
        yield running


def get(server: Server, token: str) -> Answer:
    return server.call("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})


def challenge_of(answer: Answer) -> str:
    [challenge] = [value for name, value in answer.headers.items() if name.lower() == "www-authenticate"]
    return challenge


def test_every_reason_is_there_before_it_happens_and_grows_when_it_does(fresh_server: Server) -> None:
    answer = get(fresh_server, TOKEN)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    before = parse_strictly(answer.body.decode())
    assert before["headwater_mqtt_refused_total"].values == {f'reason="{reason}"': 0 for reason in END_REASONS}
    assert before["headwater_mqtt_messages_dropped_total"].values == {f'limit="{limit}"': 0 for limit in DROP_LIMITS}
    assert before["headwater_refused_messages_total"].values == {"": 0}

    with fresh_server.mqtt_socket() as client:
        client.sendall(render_packet(Connect("c", username="any", password=b"wrong")))
        assert client.recv(4) == b"\x20\x02\x00\x05"
        assert client.recv(1) == b""
    after = parse_strictly(get(fresh_server, ADMIN_TOKEN).body.decode())
    assert before.keys() == after.keys()
    grown = before["headwater_mqtt_refused_total"].values | {'reason="not authorized"': 1}
    assert after["headwater_mqtt_refused_total"].values == grown


def test_a_wrong_token_is_told_what_to_do(fresh_server: Server) -> None:
    wrong = "a-wrong-token-0123456789"
    answer = get(fresh_server, wrong)
    assert answer.status == 401
    assert challenge_of(answer) == 'Bearer realm="headwater metrics", error="invalid_token"'
    text = answer.body.decode()
    for named in ("not known", "web.metrics_token", "HEADWATER_WEB_METRICS_TOKEN", "profile page"):
        assert named in text
    assert wrong not in text + str(answer.headers) + fresh_server.log
    assert TOKEN not in text


def test_without_a_token_nothing_is_called_wrong(fresh_server: Server) -> None:
    answer = fresh_server.call("GET", "/metrics")
    assert answer.status == 401
    assert challenge_of(answer) == 'Bearer realm="headwater metrics"'
    assert b"not known" not in answer.body
    assert b"web.metrics_token" in answer.body


@pytest.mark.parametrize(
    "text",
    [
        "# HELP a b\n# TYPE a gauge\na 1",
        "# HELP a b\n# TYPE a gauge\na 1\na 1\n",
        "# HELP a b\n# TYPE a gauge\nb 1\n",
        "# HELP a b\n# TYPE a counter\na 1\n",
        '# HELP a b\n# TYPE a gauge\na{l="x\\y"} 1\n',
        "# HELP a b\n# TYPE a gauge\na one\n",
        "# HELP a b\n# TYPE a gauge\n\na 1\n",
        "# TYPE a gauge\na 1\n",
    ],
)
def test_the_reader_is_strict(text: str) -> None:
    with pytest.raises(AssertionError):
        parse_strictly(text)
