"""`headwater query`, with a real server and without one."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from headwater.errors import ConfigurationError
from headwater.exchange.export_terminal import run_query
from headwater.exchange.formats import format_of
from headwater.settings import Settings
from server import ADMIN_PASSWORD, headwater, running_server

ANSWER = '"entry_id","field1"\n1,1.5\n2,2.5\n'
QUERY = 'SELECT entry_id, field1 FROM "garden"."entry" ORDER BY entry_id'


def test_a_query_beside_a_server_and_without_one(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        at = ("--data", server.data)
        channel = server.create_channel("garden", field1="level")
        for value in ("1.5", "2.5"):
            server.call("GET", f"/update?api_key={channel.write_key}&field1={value}")
        assert headwater("query", "-", *at, stdin=QUERY) == ANSWER
        lines = headwater("query", QUERY, *at, "--format", "json").splitlines()
        assert [json.loads(line) for line in lines] == [{"entry_id": 1, "field1": 1.5}, {"entry_id": 2, "field1": 2.5}]
        table = headwater(
            "query",
            "SELECT time, field1 FROM entry ORDER BY time LIMIT 1",
            *at,
            "--bucket",
            "garden",
            "--format",
            "table",
        )
        assert "time" in table
        assert "T" in table
        assert "1.5" in table

        told = headwater("query", "SELECT * FROM garden.nothing", *at, code=1)
        assert told == 'headwater: there is no table "garden"."nothing"; there are: "garden"."entry"\n'
        assert "cannot be used" in headwater("query", "SELECT * FROM read_text('/etc/passwd')", *at, code=1)
        refused = tmp_path / "refused.csv"
        headwater("query", "SELECT nothing FROM garden.entry", refused, *at, code=1)
        assert not refused.exists()

        headwater("account", "add", "anna", "--password-stdin", *at, stdin=ADMIN_PASSWORD)
        assert "name the account" in headwater("query", QUERY, *at, code=1)
        assert "there are: none yet" in headwater("query", QUERY, *at, "--account", "anna", code=1)
        assert "there is no account bob" in headwater("query", QUERY, *at, "--account", "bob", code=1)
        owner = headwater("account", "list", *at).splitlines()[0].split("\t")[0]
        file = tmp_path / "garden.jsonl"
        assert headwater("query", QUERY, file, *at, "--account", owner) == ""
        assert file.read_text() == "\n".join(lines) + "\n"
        assert "--replace" in headwater("query", QUERY, file, *at, "--account", owner, code=2)
    assert headwater("query", QUERY, *at, "--account", owner) == ANSWER
    assert "cannot be run" in headwater("query", "SELECT nothing FROM garden.entry", *at, "--account", owner, code=1)
    assert "there is no data in" in headwater("query", QUERY, "--data", tmp_path / "none", code=2)
    assert "choose one of" in headwater("query", QUERY, *at, "--format", "xml", code=2)


def test_answers_in_files(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        channel = server.create_channel("garden")
        assert server.call("GET", "/update", api_key=channel.write_key, field1="1.5").body == b"1"
        settings = replace(Settings(), data=server.data)

        def ask(name: str, text: str = QUERY, *, may_replace: bool = False) -> Counter[str]:
            path = tmp_path / name
            chosen = format_of(path, None)
            done = run_query(
                settings, text, account=None, bucket=None, path=path, chosen=chosen, may_replace=may_replace
            )
            return done.losses

        for name in ("a.csv", "a.parquet", "a.arrow", "a.json"):
            ask(name)
        for table in (pq.read_table(tmp_path / "a.parquet"), feather.read_table(tmp_path / "a.arrow")):
            assert table.to_pydict() == {"entry_id": [1], "field1": [1.5]}
        assert json.loads((tmp_path / "a.json").read_text()) == {"entry_id": 1, "field1": 1.5}
        assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == 0o600
        (tmp_path / "a.csv").write_text("precious")
        with pytest.raises(ConfigurationError, match="--replace"):
            ask("a.csv")
        assert (tmp_path / "a.csv").read_text() == "precious"
        ask("a.csv", may_replace=True)
        assert (tmp_path / "a.csv").read_text() == '"entry_id","field1"\n1,1.5\n'
        with pytest.raises(ConfigurationError, match="does not say which format"):
            ask("a.xlsx")
        with pytest.raises(ConfigurationError, match="there is no directory"):
            ask("none/a.csv")
        infinite = "SELECT 'infinity'::TIMESTAMP_S AS at FROM garden.entry"
        assert ask("at.parquet", infinite) == {"times that no calendar has": 1}
        assert ask("at.csv", infinite) == {}
        assert (tmp_path / "at.csv").read_text() == '"at"\n"infinity"\n'
        assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.arrow", "a.csv", "a.json", "a.parquet"]


def test_an_answer_to_nobody_ends(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        channel = server.create_channel("garden")
        assert server.call("GET", "/update", api_key=channel.write_key, field1="1.5").body == b"1"
        for form in ("csv", "table"):
            command = [sys.executable, "-m", "headwater", "query", QUERY, "--data", server.data, "--format", form]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                process.stdout.close()
                assert process.stderr.read() == b"headwater: nobody reads the output any more\n"
            assert process.returncode == 1
