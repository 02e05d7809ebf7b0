"""What all commands share: settings, errors in one line, exit codes. Knows no command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from headwater.errors import ConfigurationError, HeadwaterError

if TYPE_CHECKING:
    from headwater.settings import Settings

EXIT_FAILED = 1
EXIT_USAGE = 2

DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data directory (default: headwater-data).", show_default=False),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Configuration file (TOML).", show_default=False),
]


def load_for_command(data: Path | None, config: Path | None, flags: dict[str, str] | None = None) -> Settings:
    """The settings, from flags, environment and configuration file. Raises ConfigurationError."""
    from headwater.settings import CONFIG_VARIABLE, load_settings

    flags = dict(flags or {})
    if data is not None:
        flags["data"] = str(data)
    path = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    text = None
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigurationError(f"the configuration file {path} cannot be read: {reason}") from error
    name = f"the configuration file {path}" if path is not None else "the configuration file"
    return load_settings(flags, os.environ, text, config_name=name)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns every known error into one line that says what to do, and an exit code."""
    try:
        yield
    except ConfigurationError as error:
        _fail(str(error), EXIT_USAGE)
    except HeadwaterError as error:
        _fail(str(error), EXIT_FAILED)
    except OSError as error:
        if error.errno is None:
            raise
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror}{where}", EXIT_FAILED)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"headwater: {message}", err=True)
    raise typer.Exit(code)
