"""The commands `export`, `import` and `query`. Reads their options; knows nothing of how things are done."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from headwater.cli_common import ConfigOption, DataOption, load_for_command, one_line_errors
from headwater.errors import ConfigurationError

# Everything else is imported where it is used, so that `--help` and `version` answer at once.

MAX_QUERY_INPUT_CHARS = 50_000
TABLE = "table"
"""What people read, beside the formats of files."""

FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="csv, jsonl, parquet, arrow, line or arff; by default what the file's name says.",
        show_default=False,
    ),
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="If there is such a file already, replace it.")]


def add_commands(command_line: typer.Typer) -> None:
    """Register them."""
    command_line.command(
        "export",
        epilog="Examples: headwater export 7 weather.csv  ·  headwater export 7 may.parquet --start 2026-05-01 "
        "--end 2026-06-01  ·  headwater export 'Weather station' - --format jsonl | gzip > weather.jsonl.gz",
    )(export_channel)
    command_line.command(
        "import",
        epilog="Examples: headwater import feeds.csv 7  ·  headwater import history.line.gz 7 --precision ms  ·  "
        "headwater import log.csv 7 --type when=time --type room=tag --measurement climate",
    )(import_file)
    command_line.command(
        "query",
        epilog='Examples: headwater query \'SELECT time, field1 FROM "garden"."entry" ORDER BY time\'  ·  '
        "headwater query --account anna --format csv 'SELECT ...' /tmp/garden.csv",
    )(query_in_sql)


def export_channel(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Its id, or its name if no other has it.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="- is standard output; .gz and .zst compress.")],
    format_name: FormatOption = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="From this time on (ISO 8601; UTC).")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Up to this time, without it.")] = None,
    measurement: Annotated[str | None, typer.Option(metavar="NAME", help="Only this measurement.")] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="WINDOW", help="What the rule for down-sampling with this window made of it: 15m, 1h, 1d."
        ),
    ] = None,
    replace: ReplaceOption = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Write what a channel holds into a file, for pandas, DuckDB, Excel, InfluxDB, Weka or another Headwater.

    Works while the server runs. FILE is there when it is whole, and not before. What a format cannot hold is counted on
    standard error. docs/exchange.md describes the formats.
    """
    with one_line_errors():
        settings = load_for_command(data, config)
        from headwater.exchange import export_terminal
        from headwater.exchange.formats import format_of
        from headwater.exchange.source import Wanted

        wanted = Wanted(_time_ns("--start", start), _time_ns("--end", end), measurement, window)
        done = export_terminal.export_channel(
            settings, channel, file, format_of(file, format_name), wanted, may_replace=replace
        )
        _tell_losses(done.losses)
        typer.echo(f"{done.rows} records exported", err=True)


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


def _tell_losses(losses: Mapping[str, int]) -> None:
    for what, count in sorted(losses.items()):
        typer.echo(f"headwater: left out: {count} {what}", err=True)


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


def _time_ns(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    from headwater.exchange.times import parse_time

    at_ns = parse_time(text, 1_000_000_000)
    if at_ns is None:
        raise ConfigurationError(f"{option} {text}: give a time like 2026-05-01 or 2026-05-01T12:00:00Z")
    return at_ns


def _column_kind(text: str) -> tuple[str, str]:
    column, equals, kind = text.rpartition("=")
    if not equals:
        raise ConfigurationError(f"--type {text}: give it like room=tag")
    return column, kind


def query_in_sql(
    text: Annotated[str, typer.Argument(metavar="SELECT", help="The query; - reads it from standard input.")],
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="- is standard output; .gz and .zst compress.", show_default=False)
    ] = Path("-"),
    account: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose data; needed when there are several.")
    ] = None,
    bucket: Annotated[str | None, typer.Option(metavar="NAME", help="Of tables that are named without one.")] = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", help="table, csv, jsonl, parquet, arrow or arff.", show_default=False
        ),
    ] = None,
    replace: ReplaceOption = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Answer a query in SQL over one account's buckets, beside a running server too (docs/sql.md).

    The format is what --format or the file's name says; on a terminal it is a table, else CSV. FILE is there when it is
    whole, and not before.
    """
    with one_line_errors():
        settings = load_for_command(data, config)
        from headwater.exchange import export_terminal
        from headwater.exchange.formats import STANDARD_STREAM, format_of

        text = sys.stdin.read(MAX_QUERY_INPUT_CHARS) if text == "-" else text
        if format_name is None and file == STANDARD_STREAM:
            format_name = TABLE if sys.stdout.isatty() else "csv"
        if format_name == TABLE and file != STANDARD_STREAM:
            raise ConfigurationError(f"a table is for people: choose another --format for {file}")
        chosen = None if format_name == TABLE else format_of(file, format_name)
        done = export_terminal.run_query(
            settings, text, account=account, bucket=bucket, path=file, chosen=chosen, may_replace=replace
        )
        _tell_losses(done.losses)
