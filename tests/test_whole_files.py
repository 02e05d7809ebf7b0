"""The file that a command makes: whole or not there, and one writer at a time."""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path

import pyarrow as pa
import pytest

from headwater.errors import ConfigurationError, HeadwaterError
from headwater.whole_files import whole_file


def test_the_name_says_how_it_is_compressed(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar.gz", "c.tgz", "d.tar.zst"):
        with whole_file(tmp_path / name, may_replace=False) as output:
            output.write(b"content" * 1000)
    assert (tmp_path / "a.tar").read_bytes() == b"content" * 1000
    assert gzip.decompress((tmp_path / "b.tar.gz").read_bytes()) == b"content" * 1000
    assert gzip.decompress((tmp_path / "c.tgz").read_bytes()) == b"content" * 1000
    with pa.CompressedInputStream(pa.OSFile(str(tmp_path / "d.tar.zst")), "zstd") as stream:
        assert stream.read() == b"content" * 1000
    assert len(list(tmp_path.iterdir())) == 4


def test_what_a_killed_command_left_is_written_over_and_private(tmp_path: Path) -> None:
    left = tmp_path / "b.tar.new"
    left.write_bytes(b"half of an older backup")
    left.chmod(0o644)
    with whole_file(tmp_path / "b.tar", may_replace=False) as output:
        output.write(b"new")
    assert (tmp_path / "b.tar").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "b.tar").stat().st_mode) == 0o600
    assert not left.exists()


def test_two_backups_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    with whole_file(path, may_replace=False) as output:
        output.write(b"first")
        with pytest.raises(HeadwaterError, match="another command"), whole_file(path, may_replace=True):
            pass
    assert path.read_bytes() == b"first"


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    path.write_bytes(b"older")
    with pytest.raises(ConfigurationError, match="exists already"), whole_file(path, may_replace=False):
        pass
    with pytest.raises(TypeError, match="bytes-like"), whole_file(path, may_replace=True) as output:
        output.write("half")  # type: ignore[arg-type]
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("b.tar", b"older")]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "b.tar.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"), whole_file(tmp_path / "b.tar", may_replace=False):
        pass
    assert victim.read_bytes() == b"precious"


def test_what_is_not_a_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="ordinary"), whole_file(tmp_path / "pipe", may_replace=True):
        pass
    assert (tmp_path / "pipe").is_fifo()


def test_what_somebody_else_may_have_put_in_its_place_is_not_used(tmp_path: Path) -> None:
    unfinished, victim = tmp_path / "b.tar.new", tmp_path / "victim"
    victim.write_bytes(b"precious")
    unfinished.hardlink_to(victim)
    with pytest.raises(HeadwaterError, match="in the way"), whole_file(tmp_path / "b.tar", may_replace=False):
        pass
    assert victim.read_bytes() == b"precious"
    unfinished.unlink()
    os.mkfifo(unfinished)
    with pytest.raises(OSError, match="No such device"), whole_file(tmp_path / "b.tar", may_replace=False):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_not_filled(tmp_path: Path) -> None:
    unfinished = tmp_path / "b.tar.new"
    unfinished.touch(mode=0o666)
    os.chown(unfinished, 65534, 65534)
    with pytest.raises(HeadwaterError, match="in the way"), whole_file(tmp_path / "b.tar", may_replace=False):
        pass
    assert unfinished.stat().st_size == 0
