from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import BadRequest
from headwater.services.checks import check_line, check_text


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20))
def test_text_without_control_characters_passes(text):
    check_text("note", text, 20)


@given(st.text(max_size=5), st.characters(categories=["Cc", "Cs"]), st.text(max_size=5))
def test_control_characters_and_half_surrogates_do_not(before, character, after):
    with pytest.raises(BadRequest, match="note must not contain control characters"):
        check_text("note", before + character + after, 20)


def test_lines_are_allowed_where_they_make_sense():
    check_text("description", "one\r\n\ttwo", 20, lines=True)
    with pytest.raises(BadRequest):
        check_text("description", "one\0two", 20, lines=True)


def test_the_message_names_the_text_and_the_limit():
    with pytest.raises(BadRequest, match=r"^note may have at most 20 characters$"):
        check_text("note", "x" * 21, 20)


@pytest.mark.parametrize("text", ["", "   ", "\u00a0"])
def test_a_line_is_not_empty(text):
    with pytest.raises(BadRequest, match="name must not be empty"):
        check_line("name", text, 20)
