"""What is copied when: nothing in a backup refers to something that is not in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pytest

from headwater.backup.sources import SCRATCH, open_sources
from headwater.errors import ConfigurationError
from headwater.registry.entities import ChannelSettings
from headwater.registry.opening import open_registry
from headwater.registry.registry import Registry
from headwater.settings import Settings
from headwater.store.duck import open_duck_store
from headwater.store.memory import MemoryStore


class StoreWithNews(MemoryStore):
    """While its points are being copied, something happens."""

    def __init__(self, source: Callable[[], Mapping[str, BinaryIO]], happens: Callable[[], object]) -> None:
        super().__init__()
        self._source = source
        self._happens = happens

    def snapshot(self) -> Mapping[str, BinaryIO]:
        files = self._source()
        self._happens()
        return files


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with closing(open_registry(Settings(data=tmp_path).registry_url)) as opened:
        opened.add_account(
            "anna",
            password_hash="hash",
            is_admin=True,
            user_api_key="u",
            mqtt_api_key="m",
            alerts_api_key="a",
            time_zone="UTC",
        )
        yield opened


def test_the_registry_knows_every_channel_that_can_have_entries(registry: Registry, tmp_path: Path) -> None:
    """A channel that is made while points are copied is in the backup; it is at worst without its first entries."""

    def add_channel() -> None:
        registry.add_channel(1, ChannelSettings(name="c"), write_key="w", read_key="r", most=9)

    with closing(open_duck_store(tmp_path / "telemetry")) as store:
        changing = StoreWithNews(store.snapshot, add_channel)
        with open_sources(tmp_path, changing) as files:
            (tmp_path / "copy.db").write_bytes(files["registry.db"].read())
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM channels").fetchall() == [(1,)]


@pytest.mark.usefixtures("registry")
def test_copies_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / SCRATCH).mkdir()
    (tmp_path / SCRATCH / "registry.db").write_bytes(b"of a backup that was killed")
    (tmp_path / "certificates").mkdir()
    for name in ("ca.crt", ".ca.key.1234", "not a safe name"):
        (tmp_path / "certificates" / name).write_bytes(b"")
    with closing(open_duck_store(tmp_path / "telemetry")) as store, open_sources(tmp_path, store) as files:
        assert sorted(files) == ["certificates/ca.crt", "registry.db", "telemetry/points.duckdb"]
        assert not (tmp_path / SCRATCH).exists()
    assert all(file.closed for file in files.values())


def test_a_directory_without_a_registry_is_none_of_ours(tmp_path: Path) -> None:
    with (
        closing(open_duck_store(tmp_path / "telemetry")) as store,
        pytest.raises(ConfigurationError, match=r"registry\.db"),
        open_sources(tmp_path, store),
    ):
        pass
