"""The commands `export`, `import` and `query`. Reads their options; knows nothing of how things are done."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from headwater.cli_common import ConfigOption, DataOption, load_for_command, one_line_errors
from headwater.cli_import import FormatOption, add_imports
from headwater.errors import ConfigurationError

# Everything else is imported where it is used, so that `--help` and `version` answer at once.

MAX_QUERY_INPUT_CHARS = 50_000
TABLE = "table"
"""What people read, beside the formats of files."""

ReplaceOption = Annotated[bool, typer.Option("--replace", help="If there is such a file already, replace it.")]


def add_commands(command_line: typer.Typer) -> None:
    """Register them."""
    command_line.command(
        "export",
        epilog="Examples: headwater export 7 weather.csv  ·  headwater export 7 may.parquet --start 2026-05-01 "
        "--end 2026-06-01  ·  headwater export 'Weather station' - --format jsonl | gzip > weather.jsonl.gz",
    )(export_channel)
    add_imports(command_line)
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


def _tell_losses(losses: Mapping[str, int]) -> None:
    for what, count in sorted(losses.items()):
        typer.echo(f"headwater: left out: {count} {what}", err=True)


def _time_ns(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    from headwater.exchange.times import parse_time

    at_ns = parse_time(text, 1_000_000_000)
    if at_ns is None:
        raise ConfigurationError(f"{option} {text}: give a time like 2026-05-01 or 2026-05-01T12:00:00Z")
    return at_ns


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
