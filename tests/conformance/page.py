"""The page `docs/mqtt-conformance.md`: every normative statement with the tests that show it.

`python -m tests.conformance.page` prints it. Test names are read from the sources of the test modules, which are not
imported: `test_mqtt_3_3_1_4` shows [MQTT-3.3.1-4], and so does `test_mqtt_3_3_1_4_with_dup`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .statements import Statement
from .statements_50 import STATEMENTS as STATEMENTS_50
from .statements_311 import STATEMENTS as STATEMENTS_311

FOLDER = Path(__file__).parent
_TEST_NAME = re.compile(r"(test_mqtt_(?:\d+_){3}\d+)(?:_[a-z]\w*)?")


@dataclass(frozen=True, slots=True)
class Version:
    """One version of MQTT: its statements, and where their tests are."""

    name: str
    statements: Sequence[Statement]
    modules: str
    url: str


VERSIONS = (
    Version(
        "MQTT 3.1.1",
        STATEMENTS_311,
        "test_mqtt311_*.py",
        "https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html",
    ),
    Version(
        "MQTT 5.0", STATEMENTS_50, "test_mqtt5_*.py", "https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html"
    ),
)


@dataclass(frozen=True, slots=True)
class ShownBy:
    """A test function."""

    name: str
    module: str


def find_tests(version: Version) -> dict[str, list[ShownBy]]:
    """The tests of a version by the name that they must begin with, `test_mqtt_3_3_1_4`. Other tests are left out."""
    tests: dict[str, list[ShownBy]] = defaultdict(list)
    for path in sorted(FOLDER.glob(version.modules)):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (match := _TEST_NAME.fullmatch(node.name)):
                tests[match[1]].append(ShownBy(node.name, path.name))
    return tests


_HEAD = """# MQTT conformance

<!-- Made by `make docs` from tests/conformance: change it there. -->

Headwater speaks MQTT 3.1, 3.1.1 and 5.0. The two specifications by OASIS number every normative statement; this page
lists them all, says in a few words what each asks for, whom it binds, and which tests show that Headwater keeps it.
The tests talk to a running server over real sockets. The words here are no substitute for the specification's.

A statement that binds only the client has a test where the server has to react to a client that breaks it.
**Choice** marks where the specification leaves a choice and what Headwater chose, or where it deviates and why.

Chapter 7 is left out: its statements say which of the others an implementation has to keep.

MQTT 3.1 has no numbered statements; what differs from 3.1.1 is in
[test_mqtt31.py](../tests/conformance/test_mqtt31.py).
"""


def render_page() -> str:
    """The whole page in Markdown."""
    return _HEAD + "".join(line for version in VERSIONS for line in _render_version(version))


def _render_version(version: Version) -> Iterator[str]:
    tests = find_tests(version)
    server = [statement for statement in version.statements if statement.is_for_server]
    count = sum(len(found) for found in tests.values())
    yield f"\n## {version.name}\n\n[{version.name}]({version.url}) has {len(version.statements)} normative statements, "
    yield f"{len(server)} of which bind a server. {count} tests show them.\n\n"
    yield "| statement | what it asks for | binds | tests |\n|---|---|---|---|\n"
    for statement in version.statements:
        choice = f"<br>**Choice:** {statement.note}" if statement.note else ""
        links = "<br>".join(_link(test, statement) for test in tests[statement.test_name])
        yield f"| MQTT-{statement.number} | {statement.summary}{choice} | {statement.binds.value} | {links} |\n"


def _link(test: ShownBy, statement: Statement) -> str:
    label = test.name.removeprefix(statement.test_name).strip("_").replace("_", " ") or test.name
    return f"[{label}](../tests/conformance/{test.module})"


if __name__ == "__main__":
    sys.stdout.write(render_page())
