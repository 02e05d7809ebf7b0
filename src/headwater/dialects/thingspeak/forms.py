"""The forms in which an answer may be asked for, by the end of the path. Pure."""

from __future__ import annotations

from enum import Enum


class Form(Enum):
    """Value: the content type."""

    JSON = "application/json"
    XML = "application/xml"
    CSV = "text/csv"
    TEXT = "text/plain"

    @property
    def extension(self) -> str:
        return ".txt" if self is Form.TEXT else f".{self.name.lower()}"
