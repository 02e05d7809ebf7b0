"""`headwater export` and `headwater import`, with the real command line, beside a real server and without one."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from headwater.app import open_services, open_store
from headwater.registry.entities import Channel
from headwater.services import Services
from headwater.settings import Settings
from headwater.store.aggregates import Function
from server import ChannelKeys, Server, running_server, wait_until

LINES = b"""\
climate,room=attic temp=21.5,count=3i,total=18446744073709551615u,ok=t,note="a, \\"b\\"" 1700000000123456789
climate,room=attic temp=22,count=4i 1700000001000000000
climate,room=living\\ room temp=19.25,temp=19.5,count=1 1700000000123456789
doors open=F,note="" -1
"""
THINGSPEAK = b"""\
created_at,entry_id,field1,field2,latitude,longitude,elevation,status
2024-01-01T00:00:00+00:00,7,20.50,on,47.5,8.25,,
2024-01-01T00:00:15+00:00,9,21.5,,,,,restarted
2024-01-01 00:00:15 UTC,10,"1e3",,,,,
"""


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "headwater", *map(str, arguments)]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)


def headwater(*arguments: str | Path, stdin: bytes = b"", code: int = 0) -> tuple[bytes, str]:
    """Run a command; what it printed, and what on standard error."""
    with start(*arguments) as process:
        output, errors = process.communicate(stdin, timeout=100)
    assert process.returncode == code, errors
    assert b"Traceback" not in errors
    return output, errors.decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("exchange") / "data") as server:
        yield server


def load(server: Server, channel: ChannelKeys, content: bytes, *arguments: str, code: int = 0) -> str:
    where = ("-", str(channel.id), "--data", server.data)
    return headwater("import", *where, *arguments, stdin=content, code=code)[1]


def lines_of(data: Path, channel: ChannelKeys, *arguments: str) -> list[str]:
    output, _ = headwater("export", str(channel.id), "-", "--format", "line", "--data", data, *arguments)
    return sorted(output.decode().splitlines())


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.zst", "a.parquet"])  # every format: test_round_trip.py
def test_through_a_file_into_another_channel(server: Server, tmp_path: Path, name: str) -> None:
    first, second = server.create_channel("first"), server.create_channel("second")
    load(server, first, LINES, "--format", "line")
    _, told = headwater("export", str(first.id), tmp_path / name, "--data", server.data)
    assert told == "4 records exported\n"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    for _ in range(2):
        _, told = headwater("import", tmp_path / name, str(second.id), "--data", server.data)
        assert told.startswith("4 records imported: 11 points")
    lines = lines_of(server.data, second)
    assert len(lines) == 4
    assert lines == lines_of(server.data, first)
    assert not list((server.data / "imports").iterdir())


def test_a_part_of_it(server: Server) -> None:
    channel = server.create_channel("by its name")
    load(server, channel, LINES, "--format", "line")
    assert lines_of(server.data, channel, "--measurement", "doors") == ['doors note="",open=false -1']
    found = lines_of(server.data, channel, "--start", "2023-11-14T22:13:21Z", "--end", "2023-11-14T22:13:22")
    assert found == ["climate,room=attic count=4i,temp=22.0 1700000001000000000"]
    output, _ = headwater(
        "export", "by its name", "-", "--format", "jsonl", "--data", server.data, "--end", "1970-01-01"
    )
    assert json.loads(output) == {
        "time": "1969-12-31T23:59:59.999999999Z",
        "measurement": "doors",
        "note:string": "",
        "open:boolean": False,
    }


def test_what_thingspeak_exports_becomes_entries(server: Server, tmp_path: Path) -> None:
    channel = server.create_channel()
    file = tmp_path / "feeds.csv"
    file.write_bytes(THINGSPEAK)
    for _ in range(2):
        _, told = headwater("import", file, str(channel.id), "--data", server.data)
        assert told == "3 records imported: 12 points\n"
        feeds = server.feeds(channel, status="true", location="true")
        assert [(one["created_at"], one["entry_id"], one["field1"], one["field2"]) for one in feeds] == [
            ("2024-01-01T00:00:00Z", 7, "20.50", "on"),
            ("2024-01-01T00:00:15Z", 9, "21.5", None),
            ("2024-01-01T00:00:15Z", 10, "1e3", None),
        ]
        assert (feeds[0]["latitude"], feeds[1]["status"]) == ("47.5", "restarted")
    assert server.call("GET", "/update", api_key=channel.write_key, field1="5").body == b"11"


def test_entries_are_numbered_behind_those_that_are_there(server: Server) -> None:
    channel = server.create_channel()
    for _ in range(8):
        server.call("GET", "/update", api_key=channel.write_key, field1="1")
    for _ in range(2):
        load(server, channel, THINGSPEAK, "--format", "csv")
        assert sorted(one["entry_id"] for one in server.feeds(channel)) == [*range(1, 9), 9, 10, 11]
    assert [one["entry_id"] for one in server.feeds(channel)][:3] == [9, 10, 11]
    assert server.call("GET", "/update", api_key=channel.write_key, field1="5").body == b"12"


def test_a_channel_goes_to_another_as_it_is(server: Server, tmp_path: Path) -> None:
    first, second = server.create_channel(), server.create_channel()
    server.call("GET", "/update", api_key=first.write_key, field1="20.50", status="début", created_at="2030-01-01")
    server.call("GET", "/update", api_key=first.write_key, field1="on", field2="-0")
    for name in ("a.csv", "a.parquet"):
        headwater("export", str(first.id), tmp_path / name, "--data", server.data)
        headwater("import", tmp_path / name, str(second.id), "--data", server.data)
        options = {"status": "true", "location": "true"}
        assert server.feeds(second, **options) == server.feeds(first, **options)
    assert server.call("GET", "/update", api_key=second.write_key, field1="5").body == b"3"


def test_without_a_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_server(data) as server:
        channel, other = server.create_channel(), server.create_channel()
    told = headwater("import", "-", str(channel.id), "--format", "line", "--data", data, stdin=LINES)[1]
    assert told == "4 records imported: 11 points\n"
    headwater("export", str(channel.id), tmp_path / "a.arrow", "--data", data)
    headwater("import", tmp_path / "a.arrow", str(other.id), "--data", data)
    assert lines_of(data, other) == lines_of(data, channel)
    headwater("import", "-", str(other.id), "--format", "csv", "--data", data, stdin=THINGSPEAK)
    with running_server(data) as server:
        assert server.call("GET", "/update", api_key=other.write_key, field1="5").body == b"11"
        assert len(lines_of(data, other)) == 8


async def change(data: Path, channel_id: int, work: Callable[[Services, Channel], Awaitable[object]]) -> None:
    settings = replace(Settings(), data=data)
    with closing(open_store(settings)) as store:
        async with open_services(settings, store) as services:
            channel = services.access.channel(channel_id)
            assert channel is not None
            await work(services, channel)


async def keep_for_a_day(services: Services, channel: Channel) -> None:
    await services.channels.update(channel.account_id, channel.id, replace(channel.settings, retention_s=86_400))


async def sum_up_hours(services: Services, channel: Channel) -> None:
    await services.rollups.add(
        channel.account_id, channel.id, window_s=3600, functions=[Function.COUNT, Function.MAX], keep_s=None
    )


def test_what_was_down_sampled_can_be_had_too(tmp_path: Path) -> None:
    data = tmp_path / "data"
    records = b"level,tank=a value=1 3600\nlevel,tank=a value=3 3601\n"
    with running_server(data) as server:
        channel = server.create_channel("tank")
        load(server, channel, records, "--format", "line", "--precision", "s")
        hours = ("export", "tank", "-", "--format", "line", "--data", data, "--window")
        assert "the channel has none yet" in headwater(*hours, "1h", code=1)[1]
    asyncio.run(change(data, channel.id, sum_up_hours))
    found = b"level,tank=a value.count=2i,value.max=3.0 3600000000000\n"
    with running_server(data, HEADWATER_ROLLUP_INTERVAL_S="1"):
        wait_until(lambda: headwater(*hours, "1h")[0] == found, 30)
        select = 'SELECT tank, "value.max" AS top FROM tank_1h.level'
        assert headwater("query", select, "--data", data)[0] == b'"tank","top"\n"a",3\n'
        told = headwater("query", "SELECT * FROM tank_1h.rollup", "--data", data, code=1)[1]
        assert told.endswith('; there are: "tank"."level", "tank_1h"."level"\n')
    assert headwater(*hours, "1h")[0] == found
    assert "no rule for down-sampling has the window '2h'; there are: 1h" in headwater(*hours, "2h", code=1)[1]


def test_what_has_expired_neither_leaves_nor_comes_in(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_server(data) as server:
        channel = server.create_channel()
        assert server.call("GET", "/update", api_key=channel.write_key, field1="5").body == b"1"
        old = {"field1": "4", "created_at": "2024-01-01T00:00:00Z"}
        assert server.call("GET", "/update", api_key=channel.write_key, **old).body == b"2"
        assert len(lines_of(data, channel)) == 2
    asyncio.run(change(data, channel.id, keep_for_a_day))
    told = headwater("import", "-", str(channel.id), "--format", "line", "--data", data, stdin=LINES)[1]
    assert told == ("headwater: left out: 11 points older than what the channel keeps\n4 records imported: 0 points\n")
    (kept,) = lines_of(data, channel)
    with running_server(data) as server:
        assert lines_of(data, channel, "--start", "2023-01-01") == [kept]
        assert server.call("GET", "/update", api_key=channel.write_key, **old).body == b"0"
        told = load(server, channel, LINES + b"doors open=t\n", "--format", "line", "--skip-bad")
        assert "left out: 11 points older" in told
        assert lines_of(data, channel) == [kept]


def rows_of_many(count: int) -> bytes:
    return b"time,measurement,temp\n" + b"".join(b"%d,m,%d.5\n" % (number, number) for number in range(count))


@pytest.mark.parametrize("killed", ["command", "server"])
def test_an_import_that_was_killed_goes_on(tmp_path: Path, killed: str) -> None:
    file = tmp_path / "many.csv"
    file.write_bytes(rows_of_many(1_500_000))
    data = tmp_path / "data"
    with running_server(data) as server:
        channel = server.create_channel()
        with start("import", file, str(channel.id), "--data", data) as process:
            note = data / "imports"
            wait_until(lambda: list(note.glob("*")) and json.loads(next(note.glob("*")).read_text())["row"] > 0, 60)
            assert process.poll() is None
            process.kill() if killed == "command" else server.kill()
            process.communicate(timeout=60)
            assert process.returncode != 0
        if killed == "command":
            told = headwater("import", file, str(channel.id), "--data", data)[1]
    if killed == "server":
        told = headwater("import", file, str(channel.id), "--data", data)[1]
    assert told.startswith("1500000 records imported, from record ")
    assert not list(note.iterdir())
    output, _ = headwater("export", str(channel.id), "-", "--format", "csv", "--data", data)
    assert output.count(b"\n") == 1_500_001


def test_devices_are_served_meanwhile(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "many.csv.gz"
    file.write_bytes(gzip.compress(rows_of_many(400_000), 1))
    channel, own = server.create_channel(), server.create_channel()
    slowest_s, updates = 0.0, 0
    with start("import", file, str(channel.id), "--data", server.data) as process:
        reader = threading.Thread(target=process.communicate)
        reader.start()
        while process.poll() is None:
            begun_s = time.monotonic()
            assert server.call("GET", "/update", api_key=own.write_key, field1="1").body != b"0"
            slowest_s = max(slowest_s, time.monotonic() - begun_s)
            updates += 1
        reader.join()
    assert process.returncode == 0
    assert updates > 10
    assert slowest_s < 5


@pytest.mark.parametrize(
    ("content", "arguments", "code", "message"),
    [
        (b"", ["--format", "xml"], 2, "there is no format 'xml'"),
        (b"", ["--format", "parquet"], 2, "name a file, not '-'"),
        (b"", ["--format", "csv", "--precision", "h"], 2, "--precision h"),
        (b"", ["--format", "csv", "--type", "a=number"], 2, "--type a=number"),
        (b"", [], 2, "--format"),
        (b"m f=1 1\nm f=x 2\n", ["--format", "line"], 1, "line 2: invalid number; correct it"),
        (gzip.compress(LINES * 100)[:-20], ["--format", "line"], 1, "damaged or cut off"),
    ],
)
def test_what_cannot_be_imported(server: Server, content: bytes, arguments: list[str], code: int, message: str) -> None:
    channel = server.create_channel()
    told = load(server, channel, content, *arguments, code=code)
    assert message in told
    assert told.startswith("headwater: ")
    assert told.count("\n") == 1


def test_bad_lines_are_passed_over_and_told(server: Server) -> None:
    channel = server.create_channel()
    told = load(server, channel, b"m f=1 1\nm f=x 2\nm f=3 3\n" + b"m\n" * 7, "--format", "line", "--skip-bad")
    assert "passed over: line 2: invalid number\n" in told
    assert "passed over: 3 more\n2 records imported: 2 points\n" in told
    csv = b"time,measurement,a:float\n1,m,1\n2,m\n3,m,x\n4,m,4\n,m,5\n"
    told = load(server, channel, csv, "--format", "csv", "--skip-bad")
    assert "row 3: it has 2 cells" in told
    assert "row 4: 'a:float' is 'x'" in told
    assert "row 6: it has no time" in told
    assert told.endswith("2 records imported: 2 points\n")
    assert lines_of(server.data, channel) == ["m a=1.0,f=1.0 1", "m a=4.0 4", "m f=3.0 3"]


def test_what_cannot_be_exported(server: Server, tmp_path: Path) -> None:
    channel, _ = server.create_channel("twice"), server.create_channel("twice")
    (tmp_path / "a.csv").write_bytes(b"mine")
    for arguments, code, message in (
        (["77777", tmp_path / "b.csv"], 1, "there is no channel '77777'"),
        (["twice", tmp_path / "b.csv"], 1, "2 channels are called 'twice'"),
        ([str(channel.id), tmp_path / "a.csv"], 2, "exists already"),
        ([str(channel.id), tmp_path / "b.xyz"], 2, "--format"),
        ([str(channel.id), tmp_path / "b.parquet.gz"], 2, "without .gz"),
        ([str(channel.id), tmp_path / "b.csv", "--start", "noon"], 2, "--start noon"),
    ):
        _, told = headwater("export", *arguments, "--data", server.data, code=code)
        assert message in told
    headwater("export", str(channel.id), "/dev/null", "--format", "csv", "--replace", "--data", server.data, code=2)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.csv", b"mine")]


def test_a_full_disk_leaves_no_half_file(server: Server, tmp_path: Path) -> None:
    channel = server.create_channel()
    load(server, channel, rows_of_many(20_000), "--format", "csv")
    command = [sys.executable, "-m", "headwater", "export", str(channel.id), "--data", str(server.data)]
    for name in ("a.csv", "a.arrow", "a.parquet", "a.line.gz"):
        limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *command, str(tmp_path / name)]
        done = subprocess.run(limited, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert done.stderr == "headwater: File too large\n"
        assert not list(tmp_path.iterdir())


def test_an_export_to_nobody_ends(server: Server) -> None:
    channel = server.create_channel()
    load(server, channel, rows_of_many(100_000), "--format", "csv")
    with start("export", str(channel.id), "-", "--format", "line", "--data", server.data) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"m temp=0.5 0\n"
        process.stdout.close()
        process.wait(timeout=60)
        assert process.stderr is not None
        assert process.stderr.read() == b"headwater: nobody reads the output any more\n"
    assert process.returncode == 1
