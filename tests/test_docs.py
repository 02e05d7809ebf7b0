"""The documents: generated pages are current, examples work, links lead somewhere."""

from __future__ import annotations

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
