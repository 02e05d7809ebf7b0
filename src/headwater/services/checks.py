"""Checks on texts that people and programs send: length, and characters that cannot be shown or stored."""

from __future__ import annotations

import unicodedata

from headwater.errors import BadRequest

_BREAKS = frozenset("\n\r\t")


def check_line(what: str, text: str, most: int) -> None:
    """Raise `BadRequest` unless the text is one line of 1 to `most` characters, not all of them blank."""
    if not text.strip():
        raise BadRequest(f"{what} must not be empty")
    check_text(what, text, most)


def check_text(what: str, text: str, most: int, *, lines: bool = False) -> None:
    """Raise `BadRequest`, naming `what` and the limit, for more than `most` characters, for control
    characters (with `lines`, line breaks and tabs are allowed) and for halves of surrogate pairs, which no
    database takes."""
    if len(text) > most:
        raise BadRequest(f"{what} may have at most {most} characters")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and not (lines and character in _BREAKS):
            raise BadRequest(f"{what} must not contain control characters")
