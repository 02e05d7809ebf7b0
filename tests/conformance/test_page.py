"""The list of statements is whole, every statement for servers is tested, and the page says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from .page import VERSIONS, Version, find_tests, render_page

PAGE = Path(__file__).parents[2] / "docs" / "mqtt-conformance.md"


def _name(version: Version) -> str:
    return version.name


@pytest.mark.parametrize("version", VERSIONS, ids=_name)
def test_every_statement_for_servers_has_a_test(version: Version) -> None:
    tests = find_tests(version)
    missing = [s.number for s in version.statements if s.is_for_server and s.test_name not in tests]
    assert not missing


@pytest.mark.parametrize("version", VERSIONS, ids=_name)
def test_every_test_belongs_to_a_statement(version: Version) -> None:
    known = {statement.test_name for statement in version.statements}
    assert not find_tests(version).keys() - known


@pytest.mark.parametrize("version", VERSIONS, ids=_name)
def test_no_statement_and_no_test_is_there_twice(version: Version) -> None:
    numbers = [statement.number for statement in version.statements]
    assert len(set(numbers)) == len(numbers)
    names = [test.name for tests in find_tests(version).values() for test in tests]
    assert len(set(names)) == len(names)


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(), "docs/mqtt-conformance.md is old: run `make docs`"
