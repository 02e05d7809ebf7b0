"""Which formats there are, and which one a file has by its name."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from headwater.errors import ConfigurationError
from headwater.whole_files import COMPRESSIONS

STANDARD_STREAM = Path("-")


class Format(enum.Enum):
    """The value is what people call it on the command line."""

    CSV = "csv"
    JSON_LINES = "jsonl"
    PARQUET = "parquet"
    ARROW = "arrow"
    LINE_PROTOCOL = "line"
    ARFF = "arff"


_ENDINGS: Mapping[str, Format] = MappingProxyType(
    {
        ".csv": Format.CSV,
        ".jsonl": Format.JSON_LINES,
        ".json": Format.JSON_LINES,
        ".ndjson": Format.JSON_LINES,
        ".parquet": Format.PARQUET,
        ".arrow": Format.ARROW,
        ".feather": Format.ARROW,
        ".line": Format.LINE_PROTOCOL,
        ".lp": Format.LINE_PROTOCOL,
        ".arff": Format.ARFF,
    }
)
_SYNONYMS: Mapping[str, str] = MappingProxyType({"json": Format.JSON_LINES.value})


def format_of(path: Path, name: str | None) -> Format:
    """The format of this name, or of a file of this name. Raises ConfigurationError."""
    names = ", ".join(one.value for one in Format)
    if name is not None:
        try:
            return Format(_SYNONYMS.get(name, name))
        except ValueError:
            raise ConfigurationError(f"there is no format {name!r}: choose one of {names}") from None
    is_compressed = path.suffix in COMPRESSIONS
    found = _ENDINGS.get((path.with_suffix("") if is_compressed else path).suffix.lower())
    if found is None:
        raise ConfigurationError(f"the name {path} does not say which format it has: say so with --format ({names})")
    if is_compressed and found is Format.PARQUET:
        raise ConfigurationError("Parquet is compressed inside: name the file without .gz or .zst")
    return found
