"""The examples of docs/mqtt.md, run as they stand there but for ports and paths."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from mqtt_js_client import install

from server import ADMIN_PASSWORD, ADMIN_TOKEN, Server, require_program, running_server, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "mqtt.md"
ACCOUNT = "ada"
TIMEOUT_S = 20
EXAMPLES = re.search(r"^## Examples\n(.*?)^## ", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Command(NamedTuple):
    text: str
    is_background: bool


class Console(NamedTuple):
    """What is typed, and what then appears."""

    commands: list[Command]
    output: list[str]

    @property
    def program(self) -> str:
        return self.commands[-1].text.split()[0]


def blocks(language: str) -> list[str]:
    assert EXAMPLES is not None
    return [text for found, text in BLOCK.findall(EXAMPLES[1]) if found == language]


def parse_console(text: str) -> Console:
    """A command begins with `$ `, and goes on in the next line when it ends in a pipe."""
    commands: list[str] = []
    output: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append(line.removeprefix("$ "))
        elif commands[-1].endswith("|"):
            commands[-1] += line
        else:
            output.append(line)
    return Console([Command(text.removesuffix("&"), text.endswith("&")) for text in commands], output)


def consoles() -> list[Console]:
    """What is typed while an earlier example runs, "in a second terminal", belongs to that."""
    assert EXAMPLES is not None
    found: list[Console] = []
    end = 0
    for match in BLOCK.finditer(EXAMPLES[1]):
        said, end = EXAMPLES[1][end : match.start()], match.end()
        if match[1] != "console":
            continue
        one = parse_console(match[2])
        if said.rstrip().endswith("second terminal:"):
            running = found.pop()
            before = [Command(command.text, is_background=True) for command in running.commands]
            one = Console([*before, *one.commands], running.output + one.output)
        found.append(one)
    return found


CONSOLES = consoles()


class Terminal:
    """A shell in a folder, beside a server whose ports are not those of the examples."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.environment = os.environ | {"TOKEN": ADMIN_TOKEN, "XDG_CONFIG_HOME": str(folder)}

    def adapt(self, text: str) -> str:
        text = re.sub(r"\bmosquitto_(pub|sub|rr)(?! -p)", rf"\g<0> -p {self.server.mqtt_port}", text)
        text = text.replace("-p 8883", f"-p {self.server.mqtts_port}")
        return text.replace("localhost:8080", f"localhost:{self.server.http_port}").replace(
            "port=8080", f"port={self.server.http_port}"
        )

    def figure(self, name: str) -> int:
        """From the server's metrics."""
        answer = self.server.call("GET", "/metrics", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
        found = re.search(rf"^headwater_mqtt_{name} (\d+)\.0$", answer.body.decode(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def run(self, console: Console) -> list[str]:
        """The lines that appear; waits for as many as the example shows."""
        wait_until(lambda: not self.figure("connections"), TIMEOUT_S, "the end of the last example")
        printed = self.folder / "printed"
        background: list[subprocess.Popen[bytes]] = []
        with printed.open("wb") as output:
            try:
                for number, command in enumerate(console.commands, 1):
                    process = subprocess.Popen(
                        ["stdbuf", "-oL", "bash", "-c", self.adapt(command.text)],
                        cwd=self.folder,
                        env=self.environment,
                        stdout=output,
                        start_new_session=True,
                    )
                    if command.is_background:
                        background.append(process)
                        wait_until(lambda n=number: self.figure("subscriptions") == n, TIMEOUT_S, "SUBACK")
                    else:
                        assert process.wait(TIMEOUT_S) == 0, command.text
                wait_until(lambda: printed.read_text().count("\n") >= len(console.output), TIMEOUT_S, "what is printed")
            finally:
                for process in background:
                    end(process)
        return printed.read_text().splitlines()


def end(process: subprocess.Popen[bytes]) -> None:
    """With what it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(TIMEOUT_S)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """The certificates of the page, and a server with its settings, an account and an account device."""
    folder = tmp_path_factory.mktemp("examples")
    for console in CONSOLES:
        if console.program == "openssl":
            for command in console.commands:
                subprocess.run(["bash", "-c", command.text], cwd=folder, check=True, capture_output=True)
    settings = "\n".join(blocks("toml"))
    assert tomllib.loads(settings)["listen"] == {"mqtt_proxied": ["127.0.0.1:1884"]}
    settings = settings.replace("127.0.0.1:1884", "127.0.0.1:0").replace("devices-ca.crt", f"{folder}/devices-ca.crt")
    (folder / "headwater.toml").write_text(settings)
    arguments = ("--config", str(folder / "headwater.toml"))
    with running_server(folder / "data", *arguments, HEADWATER_ADMIN_USER=ACCOUNT) as server:
        server.submit("/sign-in", name=ACCOUNT, password=ADMIN_PASSWORD, next="/channels")
        server.create_account_device("porch")
        (folder / "ca.crt").write_bytes(server.ca_path.read_bytes())
        yield Terminal(server, folder)


@pytest.mark.parametrize(
    "console",
    [console for console in CONSOLES if console.program != "openssl"],
    ids=lambda console: console.commands[-1].text[:60],
)
def test_commands_print_what_the_page_shows(terminal: Terminal, console: Console) -> None:
    for program in set(re.findall(r"\b(mosquitto_\w+|curl)\b", " ".join(c.text for c in console.commands))):
        require_program(program)
    printed = terminal.run(console)
    if console.output:
        assert sorted(printed) == console.output
    elif (count := re.search(r" -C (\d+)$", console.commands[-1].text)) is not None:
        assert len(printed) == int(count[1])
    else:
        assert printed == []


def test_paho_publishes_over_websocket(terminal: Terminal) -> None:
    [program] = blocks("python")
    [subscribe, _] = CONSOLES[0].commands
    command = Command(f"{sys.executable} -c '{program}'", is_background=False)
    assert terminal.run(Console([subscribe, command], CONSOLES[0].output)) == CONSOLES[0].output


def test_mqtt_js_over_websocket(terminal: Terminal) -> None:
    [program] = blocks("js")
    modules = terminal.folder / "node_modules"
    modules.symlink_to(install())
    (terminal.folder / "example.mjs").write_text(terminal.adapt(program))
    process = subprocess.Popen(
        [require_program("node"), "example.mjs"],
        cwd=terminal.folder,
        env=terminal.environment,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        try:
            assert output.readline() == b"home/porch 21.5\n"
        finally:
            end(process)


@pytest.fixture
def free_port(free_tcp_port_factory: Callable[[], int]) -> int:
    return free_tcp_port_factory()


def test_haproxy_tells_who_the_client_is(terminal: Terminal, free_port: int) -> None:
    [configuration] = blocks("haproxy")
    server = terminal.server
    proxied = server.ready["mqtt_proxied"][0].rsplit(":", 1)[1]
    configuration = configuration.replace(":1883", f"127.0.0.1:{free_port}").replace(":1884", f":{proxied}")
    (terminal.folder / "haproxy.cfg").write_text(configuration)
    process = subprocess.Popen([require_program("haproxy"), "-db", "-f", "haproxy.cfg"], cwd=terminal.folder)
    try:
        publish = [
            "mosquitto_pub",
            "-p",
            str(free_port),
            "-A",
            "127.0.0.5",
            "-u",
            "any",
            "-P",
            "wrong",
            "-t",
            "t",
            "-m",
            "x",
        ]
        wait_until(
            lambda: subprocess.run(publish, capture_output=True, timeout=TIMEOUT_S).returncode == 5,
            TIMEOUT_S,
            "the proxy",
        )
        assert "127.0.0.5" in server.log
        publish[publish.index("wrong")] = ADMIN_TOKEN
        assert subprocess.run([*publish, "-q", "1"], timeout=TIMEOUT_S).returncode == 0
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)
