"""The documents: generated pages are current, examples work, links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from headwater.reference import render_help, render_page
from headwater.settings import Settings, definitions, load_settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_TOML_BLOCK = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)


def anchor_of(heading: str) -> str:
    """As the common code hosting sites make anchors."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def test_the_settings_page_is_current() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == render_page(), "docs/settings.md is not what the settings say: run `make docs`"


def test_the_settings_page_and_the_help_name_every_setting() -> None:
    page, help_text = render_page(), render_help()
    for definition in definitions():
        assert f"| `{definition.key}`<br>`{definition.variable}`" in page
        assert f"  {definition.key} = " in help_text
    assert max(map(len, help_text.splitlines())) <= 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_configuration_examples_can_be_loaded(page: Path) -> None:
    for example in _TOML_BLOCK.findall(page.read_text(encoding="utf-8")):
        assert load_settings({}, {}, example) != Settings()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    for match in _LINK.finditer(text):
        target = match[1] or match[2]
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_relative_to(ROOT), f"{target} leads out of the project"
        assert file.exists(), f"{target} does not exist"
        if anchor and file.suffix == ".md":
            headings = _HEADING.findall(file.read_text(encoding="utf-8"))
            assert anchor in map(anchor_of, headings), f"{target}: there is no such heading"


_TEST = re.compile(r"`([\w/]+\.py)((?:::\w+)*)(?:\[(\w+)\])?`(?:\]\(([^)]*)\))?")
"""A test, perhaps of one conversation, and where a link on it leads."""
_CALLS = re.search(
    r"^## Call by call\n(.*?)^## ", (ROOT / "docs" / "thingspeak.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
)
_ROW = re.compile(r"^\| (?!---|Call or parameter)(.*) \| (.*) \| (.*) \|$", re.MULTILINE)


def test_every_call_of_thingspeak_names_tests_that_exist() -> None:
    assert _CALLS is not None
    rows = _ROW.findall(_CALLS[1])
    assert len(rows) > 100
    for call, _, tests in rows:
        named = _TEST.findall(tests)
        assert named, f"{call}: no test is named"
        for file, names, conversation, target in named:
            assert (ROOT / "tests" / file).is_file(), f"{call}: there is no {file}"
            assert_defined(ROOT / "tests" / file, names.split("::")[1:])
            expected = f"../tests/vectors/thingspeak/{conversation}.txt" if conversation else f"../tests/{file}"
            assert target in ("", expected), f"{call}: the link on {file} leads elsewhere"


def assert_defined(file: Path, names: list[str]) -> None:
    """A function, or a class and a function in it."""
    body = ast.parse(file.read_text("utf-8")).body
    for name in names:
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = [node for node in body if isinstance(node, kinds) and node.name == name]
        assert found, f"{file.name} has no {'::'.join(names)}"
        body = found[0].body
