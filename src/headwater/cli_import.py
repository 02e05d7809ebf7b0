"""The commands `import FILE CHANNEL` and `import thingspeak`. Reads their options; knows nothing of how it is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from headwater.cli_common import ConfigOption, DataOption, load_for_command, one_line_errors
from headwater.errors import ConfigurationError

# Everything else is imported where it is used, so that `--help` and `version` answer at once.

THINGSPEAK_URL = "https://api.thingspeak.com"
KEY_VARIABLE = "THINGSPEAK_API_KEY"
MAX_KEY_BYTES = 1024
_FILE_COMMAND = "file"

FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="csv, jsonl, parquet, arrow, line or arff; by default what the file's name says.",
        show_default=False,
    ),
]


class _Imports(TyperGroup):
    """`import FILE CHANNEL` is `import file FILE CHANNEL`; a file of a command's name is given as `./thingspeak`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_FILE_COMMAND, *args]
        return super().parse_args(ctx, args)


def add_imports(command_line: typer.Typer) -> None:
    """Register them."""
    imports = typer.Typer(
        cls=_Imports,
        no_args_is_help=True,
        help="Store what is in a file (headwater import FILE CHANNEL), or bring a channel from ThingSpeak.",
        epilog="Examples: headwater import feeds.csv 7  ·  headwater import thingspeak --channel 9",
    )
    imports.command(
        _FILE_COMMAND,
        epilog="Examples: headwater import feeds.csv 7  ·  headwater import history.line.gz 7 --precision ms  ·  "
        "headwater import log.csv 7 --type when=time --type room=tag --measurement climate",
    )(import_file)
    imports.command(
        "thingspeak",
        epilog="Examples: headwater import thingspeak --channel 9  ·  headwater import thingspeak --channel 4711 "
        "--key-file key.txt --into 7",
    )(import_from_thingspeak)
    command_line.add_typer(imports, name="import")


def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="- is standard input. May be compressed.")],
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Its id, or its name if no other has it.")],
    format_name: FormatOption = None,
    precision: Annotated[
        str, typer.Option(metavar="UNIT", help="What times count in that are whole numbers: ns, us, ms or s.")
    ] = "ns",
    measurement: Annotated[
        str | None, typer.Option(metavar="NAME", help="Measurement of records that do not say it.")
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="COLUMN=KIND",
            help="What a column is: time, measurement, tag, float, integer, unsigned, boolean or string. Repeatable.",
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Pass over lines that cannot be read, and count them.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Store what is in a file as data of a channel: what `export` wrote, what thingspeak.com exports, or any table.

    Works while the server runs. Interrupted, the same command goes on where it was; a file that is imported twice is
    there once. docs/exchange.md describes the formats.
    """
    with _ending_at_once(), one_line_errors():
        settings = load_for_command(data, config)
        from headwater.exchange import import_terminal
        from headwater.exchange.formats import format_of
        from headwater.exchange.reading import Reading, check_kinds
        from headwater.line_protocol import PRECISIONS

        if precision not in PRECISIONS:
            raise ConfigurationError(f"--precision {precision}: choose one of {', '.join(PRECISIONS)}")
        kinds = dict(_column_kind(text) for text in types or ())
        check_kinds(kinds)
        how = Reading(PRECISIONS[precision], measurement, kinds, skip_bad)
        done = import_terminal.import_file(settings, file, channel, format_of(file, format_name), how)
        for told in done.bad.told:
            typer.echo(f"headwater: passed over: {told}", err=True)
        if done.bad.count > len(done.bad.told):
            typer.echo(f"headwater: passed over: {done.bad.count - len(done.bad.told)} more", err=True)
        if done.expired:
            typer.echo(f"headwater: left out: {done.expired} points older than what the channel keeps", err=True)
        resumed = f", from record {done.resumed_row + 1} on" if done.resumed_row else ""
        typer.echo(f"{done.records} records imported{resumed}: {done.points} points", err=True)


def import_from_thingspeak(
    channel: Annotated[int, typer.Option("--channel", metavar="ID", min=1, help="The channel's number there.")],
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            envvar=KEY_VARIABLE,
            help="A read or write key of a private channel; others may see it in the list of processes.",
            show_default=False,
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", metavar="FILE", help="A file that holds the key; - is standard input."),
    ] = None,
    url: Annotated[str, typer.Option(metavar="URL", help="The server's address.")] = THINGSPEAK_URL,
    into: Annotated[
        str | None, typer.Option(metavar="CHANNEL", help="Id or name of the channel here; else one is made.")
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose the new channel is; needed when there are several.")
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Bring a channel of a ThingSpeak account here: its settings, and its entries with their times and numbers.

    Works while the server runs. Interrupted or repeated, the same command goes on where it was, and nothing is there
    twice. docs/exchange.md says more.
    """
    with _ending_at_once(), one_line_errors():
        settings = load_for_command(data, config)
        from headwater.exchange import thingspeak_terminal
        from headwater.exchange.thingspeak_client import Upstream

        upstream = Upstream(url, channel, _key_of(key, key_file))
        done = thingspeak_terminal.import_channel(settings, upstream, into=into, account=account)
        if done.is_new:
            typer.echo(f"channel {done.channel} was made: {done.name}", err=True)
        if done.expired:
            typer.echo(f"headwater: left out: {done.expired} points older than what the channel keeps", err=True)
        typer.echo(f"{done.entries} entries imported into channel {done.channel}: {done.points} points", err=True)


def _key_of(key: str | None, file: Path | None) -> str | None:
    """The key, from wherever it is; None for none. A file says more than the environment."""
    if file is not None:
        if str(file) == "-":
            key = sys.stdin.readline(MAX_KEY_BYTES)
        else:
            with file.open(encoding="utf-8", errors="replace") as opened:
                key = opened.readline(MAX_KEY_BYTES)
    return (key or "").strip() or None


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """End the process without waiting when reading was given up: PyArrow's threads may still be asking for more of the
    file, and an interpreter that is taken down under them is aborted."""
    try:
        yield
    except typer.Exit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.exit_code)


def _column_kind(text: str) -> tuple[str, str]:
    column, equals, kind = text.rpartition("=")
    if not equals:
        raise ConfigurationError(f"--type {text}: give it like room=tag")
    return column, kind
