"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from headwater import __version__
from headwater.certificates import prepare_identity
from headwater.cli import main
from headwater.instance import hold_data_directory
from headwater.settings import Settings, definitions

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Headwater = Callable[..., Outcome]


@pytest.fixture
def headwater(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Headwater:
    """Runs the command line in this process, in a fresh directory and with nothing from our environment."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("HEADWATER_")]:
        monkeypatch.delenv(variable)

    def run(*args: str, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["headwater", *args])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return Outcome(caught.value.code, captured.out, captured.err)

    return run


def test_version(headwater: Headwater) -> None:
    assert headwater("version") == Outcome(0, f"headwater {__version__}\n", "")
    assert headwater("--version") == Outcome(0, f"headwater {__version__}\n", "")


@pytest.mark.parametrize(
    "command",
    [
        *("", "serve", "check", "version", "backup", "restore"),
        *("account", "account add", "account list", "account remove", "account reset-password"),
    ],
)
def test_every_command_has_help(headwater: Headwater, command: str) -> None:
    outcome = headwater(*command.split(), "--help")
    assert outcome.code == 0
    assert f"Usage: {' '.join(['headwater', *command.split()])}" in outcome.out
    if command not in ("", "account", "version"):
        assert "Example" in outcome.out


def test_the_help_of_serve_lists_every_setting_and_flag(headwater: Headwater) -> None:
    help_text = headwater("serve", "--help").out
    for definition in definitions():
        assert f"  {definition.key} = " in help_text
        assert definition.flag in help_text


def test_help_does_not_load_what_only_the_server_needs() -> None:
    heavy = "('duckdb', 'sqlalchemy', 'starlette', 'pyarrow', 'cryptography')"
    code = f"import sys, headwater.cli; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("args", [[], ["account"]])
def test_without_a_command_the_help_is_shown(headwater: Headwater, args: list[str]) -> None:
    outcome = headwater(*args)
    assert outcome.code == 2
    assert "Usage: headwater" in outcome.out
    assert outcome.err == ""


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["serve", "--nonsense"], ["--nonsense", "--help"]),
        (["bogus"], ["bogus"]),
        (["account", "add"], ["NAME"]),
        (["serve", "--http", "8080"], ["listen.http", "--http", "'8080'", "HOST:PORT"]),
        (["serve", "--cert", "x.pem"], ["tls.key"]),
        (["serve", "--log-level", "loud"], ["log.level", "debug | info"]),
        (["check", "--config", "none.toml"], ["none.toml", "No such file"]),
        (["serve", *(f"--{name}=off" for name in ("http", "https", "mqtt", "mqtts"))], ["listen.http", "all off"]),
        (["account", "list", "--data", "nowhere"], ["nowhere", "--data"]),
        (["account", "remove", "anna", "--yes", "--data", "nowhere"], ["nowhere", "--data"]),
        (["account", "reset-password", "anna", "--password-stdin", "--data", "nowhere"], ["nowhere", "--data"]),
        (["account", "add", "anna"], ["--password-stdin"]),
        (["account", "reset-password", "anna"], ["--password-stdin"]),
        (["account", "remove", "anna"], ["--yes"]),
    ],
)
def test_wrong_use_is_said_in_one_line_with_code_2(headwater: Headwater, args: list[str], parts: list[str]) -> None:
    outcome = headwater(*args)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("headwater: ")
    assert outcome.err.count("\n") == 1
    for part in parts:
        assert part in outcome.err


def test_settings_come_from_file_environment_and_flag(
    headwater: Headwater, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "headwater.toml"
    config.write_text('data = "from-file"')
    assert "from-file" in headwater("check", "--config", str(config)).out
    monkeypatch.setenv("HEADWATER_CONFIG", str(config))
    assert "from-file" in headwater("check").out
    monkeypatch.setenv("HEADWATER_DATA", "from-environment")
    assert "from-environment" in headwater("check").out
    assert "from-flag" in headwater("check", "--data", "from-flag").out
    config.write_text("data = 7")
    assert f"in the configuration file {config}" in headwater("check").err
    config.write_bytes(b"\xff")
    assert "UTF-8" in headwater("check").err


def test_an_account_from_its_beginning_to_its_end(headwater: Headwater, tmp_path: Path) -> None:
    added = headwater("account", "add", "anna", "--password-stdin", "--admin", stdin=PASSWORD + "\n")
    assert added.code == 0
    assert added.out.startswith("account anna added; its user API key is ")
    assert headwater("account", "add", "bob", "--password-stdin", stdin=PASSWORD).code == 0
    listed = [line.split("\t") for line in headwater("account", "list").out.splitlines()]
    assert [(name, role) for name, role, _ in listed] == [("anna", "admin"), ("bob", "")]
    assert headwater("account", "reset-password", "bob", "--password-stdin", stdin="another one").code == 0
    assert headwater("account", "remove", "bob", "--yes") == Outcome(0, "account bob removed\n", "")
    assert len(headwater("account", "list").out.splitlines()) == 1
    assert (tmp_path / "headwater-data").stat().st_mode & 0o777 == 0o700


def test_what_cannot_be_done_is_said_in_one_line_with_code_1(headwater: Headwater) -> None:
    assert headwater("account", "add", "anna", "--password-stdin", stdin=PASSWORD).code == 0
    assert headwater("account", "add", "root", "--admin", "--password-stdin", stdin=PASSWORD).code == 0
    for args, stdin, part in (
        (["add", "anna", "--password-stdin"], PASSWORD, "anna"),
        (["add", "with blank", "--password-stdin"], PASSWORD, "letters"),
        (["add", "bob", "--password-stdin"], "short", "8"),
        (["remove", "nobody", "--yes"], "", "account"),
        (["remove", "root", "--yes"], "", "last administrator"),
        (["reset-password", "nobody", "--password-stdin"], PASSWORD, "account"),
    ):
        outcome = headwater("account", *args, stdin=stdin)
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err.startswith("headwater: ")
        assert outcome.err.count("\n") == 1
        assert part in outcome.err
        assert not stdin or stdin not in outcome.err


def test_check_of_a_directory_that_does_not_exist_changes_nothing(headwater: Headwater, tmp_path: Path) -> None:
    outcome = headwater("check")
    assert outcome.code == 0
    assert "will be made" in outcome.out
    assert "open files" in outcome.out
    assert "25000 connections" in outcome.out
    assert not list(tmp_path.iterdir())


def test_check_of_what_a_server_has_made(headwater: Headwater, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    settings = Settings(data=tmp_path / "headwater-data")
    with hold_data_directory(settings.data):
        prepare_identity(settings, machine_names=(), now=datetime.now(UTC))
        outcome = headwater("check")
    assert outcome.code == 0
    assert f"process {os.getpid()} serves it" in outcome.out
    assert "for 127.0.0.1, ::1, localhost" in outcome.out


def test_check_says_everything_that_is_wrong(
    headwater: Headwater, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEADWATER_TLS_CERTIFICATE", "none.crt")
    monkeypatch.setenv("HEADWATER_TLS_KEY", "none.key")
    outcome = headwater("check", "--data", "file")
    assert outcome.code == 2
    assert outcome.out.count("BAD") == 2
    assert "none.crt cannot be read" in outcome.out


def test_serve_takes_up_accounts_that_are_added_meanwhile_and_ends_at_sigterm(
    headwater: Headwater, tmp_path: Path
) -> None:
    listeners = [part for name in ("http", "https", "mqtt", "mqtts") for part in (f"--{name}", "127.0.0.1:0")]
    command = [sys.executable, "-m", "headwater", "serve", *listeners, "--log-format", "json"]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stderr is not None
        line = server.stdout.readline()
        assert line.startswith("ready {"), server.stderr.read()
        ready = json.loads(line.removeprefix("ready "))
        assert ready["pid"] == server.pid
        assert all(len(ready[name]) == 1 for name in ("http", "https", "mqtt", "mqtts"))
        assert headwater("account", "add", "anna", "--password-stdin", stdin=PASSWORD).code == 0
        assert any("reloaded" in line for line in iter(server.stderr.readline, ""))
        second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (second.returncode, second.stdout) == (2, "")
        assert f"another Headwater (process {server.pid})" in second.stderr
        server.send_signal(signal.SIGTERM)
        out, _ = server.communicate(timeout=15)
        assert server.returncode == 0
        assert out == ""
    finally:
        server.kill()
        server.communicate()
