"""The command line. It reads flags, environment and the configuration file, and turns every known error into one
line that says what to do. Knows nothing of how things are done.

Exit codes: 0 done; 1 it could not be done; 2 the command line or a setting is wrong.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from headwater import __version__
from headwater.cli_common import EXIT_FAILED, EXIT_USAGE, ConfigOption, DataOption, load_for_command, one_line_errors
from headwater.cli_exchange import add_commands
from headwater.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from headwater.services.accounts import Accounts
    from headwater.settings import Settings

# Everything else is imported where it is used, so that `--help` and `version` answer at once.

T = TypeVar("T")

MAX_PASSWORD_INPUT_CHARS = 10_000

command_line = typer.Typer(
    name="headwater",
    help="Headwater: a self-hosted home for IoT telemetry.",
    epilog="Begin with: headwater serve --demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
accounts_line = typer.Typer(
    help="Add, list and remove accounts. Works while the server runs: it is told about the change.",
    no_args_is_help=True,
)
command_line.add_typer(accounts_line, name="account")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"headwater {__version__}")
        raise typer.Exit


@command_line.callback()
def options_before_the_command(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    pass


AddressesOption = list[str] | None


def main() -> None:
    """The console script."""
    try:
        outcome = command_line(prog_name="headwater", standalone_mode=False)
    except typer.TyperException as error:
        # One line instead of a framed box; no text when it was the help that was shown.
        if text := " ".join(error.format_message().split()):
            typer.echo(f"headwater: {text} (see --help)", err=True)
        sys.exit(error.exit_code)
    except typer.Abort:
        typer.echo("headwater: given up, nothing was changed", err=True)
        sys.exit(EXIT_FAILED)
    sys.exit(outcome if isinstance(outcome, int) else 0)


class _ServeCommand(TyperCommand):
    """Shows all settings below the options."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        from headwater.reference import render_help

        typer.echo(render_help())


@command_line.command(
    cls=_ServeCommand,
    epilog="Examples: headwater serve --demo  ·  headwater serve --data /var/lib/headwater --http 0.0.0.0:8080 "
    "--mqtt 0.0.0.0:1883  ·  headwater serve --https off --mqtts off",
)
def serve(
    data: DataOption = None,
    http: Annotated[
        AddressesOption,
        typer.Option(metavar="HOST:PORT", help="Listen for HTTP here; may be repeated; 'off' for nowhere."),
    ] = None,
    https: Annotated[AddressesOption, typer.Option(metavar="HOST:PORT", help="The same for HTTP over TLS.")] = None,
    mqtt: Annotated[AddressesOption, typer.Option(metavar="HOST:PORT", help="The same for MQTT.")] = None,
    mqtts: Annotated[AddressesOption, typer.Option(metavar="HOST:PORT", help="The same for MQTT over TLS.")] = None,
    mqtt_proxied: Annotated[
        AddressesOption,
        typer.Option(metavar="HOST:PORT", help="The same for MQTT behind a proxy that sends the PROXY protocol."),
    ] = None,
    config: ConfigOption = None,
    demo: Annotated[bool, typer.Option("--demo", help="Add a demo account with a simulated weather station.")] = False,
    cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate chain (PEM) instead of the own one.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key (PEM) of it.")] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="human or json.")] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Prints `ready {...}` with the bound addresses once it accepts connections. Logs go to standard error.
    """
    lists = {
        "listen.http": http,
        "listen.https": https,
        "listen.mqtt": mqtt,
        "listen.mqtts": mqtts,
        "listen.mqtt_proxied": mqtt_proxied,
    }
    texts = {"tls.certificate": cert, "tls.key": key, "log.level": log_level, "log.format": log_format}
    flags = {name: ",".join(value) for name, value in lists.items() if value}
    flags |= {name: str(value) for name, value in texts.items() if value is not None}
    with one_line_errors():
        _serve(lambda: load_for_command(data, config, flags), demo=demo)


@accounts_line.command(
    "add",
    epilog="Examples: headwater account add anna  ·  pass show headwater/anna | headwater account add anna "
    "--password-stdin --admin",
)
def add_account(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits and . _ -")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    admin: Annotated[bool, typer.Option("--admin", help="Mark the account as administrator.")] = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Add an account; asks for its password."""
    with one_line_errors():
        settings = load_for_command(data, config)
        password = _read_password(from_stdin=password_stdin)
        account = _with_accounts(
            settings, lambda accounts: accounts.add(name, password, is_admin=admin), may_make_directory=True
        )
        typer.echo(f"account {account.name} added; its user API key is {account.user_api_key}")
        _tell_server(settings)


@accounts_line.command("list", epilog="Example: headwater account list --data /var/lib/headwater")
def list_accounts(data: DataOption = None, config: ConfigOption = None) -> None:
    """List all accounts: a table on a terminal, else one line each with tabs between the columns."""
    with one_line_errors():
        listed = _with_accounts(load_for_command(data, config), lambda accounts: accounts.list())
        rows = [
            (account.name, "admin" if account.is_admin else "", f"{account.created_at:%Y-%m-%d %H:%M}")
            for account in listed
        ]
        if not sys.stdout.isatty():
            for row in rows:
                typer.echo("\t".join(row))
            return
        from rich.console import Console
        from rich.table import Table

        table = Table("name", "role", "since (UTC)")
        for row in rows:
            table.add_row(*row)
        Console().print(table)


@accounts_line.command("remove", epilog="Example: headwater account remove anna --yes")
def remove_account(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Remove an account with its channels, devices, keys and tokens."""
    with one_line_errors():
        settings = load_for_command(data, config)
        if not yes:
            if not sys.stdin.isatty():
                raise ConfigurationError(f"removing {name} cannot be undone: confirm it with --yes")
            typer.confirm(f"Remove {name} with all its channels and devices?", abort=True)
        _with_accounts(settings, lambda accounts: accounts.remove(name))
        typer.echo(f"account {name} removed")
        _tell_server(settings)


@accounts_line.command(
    "reset-password",
    epilog="Example: headwater account reset-password anna",
)
def reset_password(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Give an account a new password; where it is signed in with the old one, it is signed out."""
    with one_line_errors():
        settings = load_for_command(data, config)
        password = _read_password(from_stdin=password_stdin)
        _with_accounts(settings, lambda accounts: accounts.set_password(name, password))
        typer.echo(f"password of {name} changed")
        _tell_server(settings)


@command_line.command(epilog="Example: headwater check --config /etc/headwater.toml")
def check(data: DataOption = None, config: ConfigOption = None) -> None:
    """Check settings, certificates and everything that is stored, without changing anything.

    Without a running server all data is read, which takes a while; beside one, telemetry is left out. Exit code 1 when
    something stored is damaged, 2 when something else is wrong.
    """
    with one_line_errors():
        settings = load_for_command(data, config)
        typer.echo("settings      good")
        from headwater.backup.inspection import check_broker, check_registry, check_telemetry
        from headwater.checkup import check_certificates, check_data, check_file_limit

        code = 0
        for title, look in (
            ("data", check_data),
            ("certificates", check_certificates),
            ("open files", check_file_limit),
            ("registry", check_registry),
            ("broker", check_broker),
            ("telemetry", check_telemetry),
        ):
            try:
                typer.echo(f"{title:<13} {look(settings)}")
            except (ConfigurationError, StorageError) as error:
                typer.echo(f"{title:<13} BAD: {error}")
                code = EXIT_FAILED if isinstance(error, StorageError) else code or EXIT_USAGE
        if code:
            raise typer.Exit(code)


@command_line.command(
    epilog="Examples: headwater backup /backups/headwater-monday.tar  ·  headwater backup --data /var/lib/headwater "
    "--replace /backups/headwater.tar.zst",
)
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="It ends with .tar, .tar.gz or .tar.zst.")],
    replace: Annotated[bool, typer.Option("--replace", help="If there is such a file already, replace it.")] = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Put accounts, channels, entries, sessions, retained messages and certificates into one file.

    Works while the server runs: everything that was acknowledged before is in it. The file holds password hashes and
    private keys, and can be read by you alone. FILE is there when it is whole, and not before.
    """
    with one_line_errors():
        settings = load_for_command(data, config)
        from headwater.backup.terminal import back_up

        size_bytes = back_up(settings, file, may_replace=replace)
        typer.echo(f"{file} made, {size_bytes / 2**20:.1f} MB; it holds keys and password hashes: keep it private")


@command_line.command(
    epilog="Example: headwater restore /backups/headwater-monday.tar --data /var/lib/headwater",
)
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `headwater backup` made.")],
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a data directory from a backup. It must not exist yet, or be empty: move the old one away first.

    Every file is compared with its hash; the directory is there when all of it is on disk, and not before.
    """
    with one_line_errors():
        settings = load_for_command(data, config)
        from headwater.backup.terminal import put_back

        manifest = put_back(file, settings.data)
        typer.echo(
            f"{settings.data} is as it was at {manifest.made_at}: "
            f"start it with `headwater serve --data {settings.data}`"
        )


add_commands(command_line)


@command_line.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"headwater {__version__}")


def _serve(read_settings: Callable[[], Settings], *, demo: bool) -> None:
    settings = read_settings()  # before the imports that take their time: a wrong setting is told at once

    from headwater.app import run
    from headwater.logs import configure_logging
    from headwater.settings import load_admin_seed

    # A reload that is asked for before the server has read anything must not end it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    configure_logging(settings.log, sys.stderr, colour=colour)
    admin = load_admin_seed(os.environ)
    _run(run(settings, admin=admin, demo=demo, announce=_announce, read_settings=read_settings, colour=colour))


def _announce(line: str) -> None:
    """For whoever started the server and waits for it, so not to be kept in a buffer."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:  # no uvloop for this system
        loop_factory = None
    else:
        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(coroutine)


def _with_accounts(
    settings: Settings, action: Callable[[Accounts], Awaitable[T]], *, may_make_directory: bool = False
) -> T:
    """Do something with the accounts as the registry has them now, beside a running server or without one."""
    if not may_make_directory and not settings.data.is_dir():
        raise ConfigurationError(f"there is no data directory {settings.data}: name the right one with --data")
    return asyncio.run(_use_accounts(settings, action))


async def _use_accounts(settings: Settings, action: Callable[[Accounts], Awaitable[T]]) -> T:
    from headwater.registry.opening import open_registry
    from headwater.registry.passwords import Passwords
    from headwater.registry.worker import RegistryWorker
    from headwater.services.access import Access
    from headwater.services.accounts import Accounts

    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(f"the data directory {settings.data} cannot be used: {error.strerror}") from error
    worker, passwords, access = RegistryWorker(open_registry(settings.registry_url)), Passwords(), Access()
    try:
        access.load(await worker.read(lambda registry: registry.snapshot()))
        return await action(Accounts(worker, access, passwords))
    finally:
        passwords.close()
        await worker.close()


def _tell_server(settings: Settings) -> None:
    from headwater.instance import ask_to_reload

    ask_to_reload(settings.data)


def _read_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.read(MAX_PASSWORD_INPUT_CHARS).rstrip("\r\n")
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask for the password: give it with --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
