"""Archives: what was written is read, `tar` understands it, and whatever is wrong with one is noticed in time."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.backup.archive import ArchiveReader, describe, write_archive
from headwater.backup.manifest import FileEntry, Manifest, is_safe_name, parse_manifest, render_manifest
from headwater.backup.restoring import restore
from headwater.errors import BadBackup, ConfigurationError

FILES = {
    "telemetry/points.duckdb": b"points" * 1000,
    "telemetry/run-1.duckdb": b"",
    "registry.db": b"r" * 512,
    "certificates/ca.key": b"key",
}


class Silent:
    def begin(self, what: str, total_bytes: int) -> None:
        pass

    def advance(self, size_bytes: int) -> None:
        pass


def archive_of(files: dict[str, bytes]) -> bytes:
    opened = {name: io.BytesIO(content) for name, content in files.items()}
    entries = tuple(describe(name, file, lambda _: None) for name, file in opened.items())
    output = io.BytesIO()
    write_archive(output, Manifest("1.0", "2026-01-02T03:04:05+00:00", entries), opened, 1_700_000_000)
    return output.getvalue()


def read(archive: bytes) -> dict[str, bytes]:
    return {stored.entry.name: b"".join(stored.content) for stored in ArchiveReader(io.BytesIO(archive)).files()}


def test_what_was_written_is_read() -> None:
    assert read(archive_of(FILES)) == FILES


def test_tar_can_look_inside() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive_of(FILES))) as tar:
        assert tar.getnames() == ["manifest.json", *FILES]
        assert {member.mode for member in tar} == {0o600}
        content = tar.extractfile("registry.db")
        assert content is not None
        assert content.read() == FILES["registry.db"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lambda data: pa.compress(data, "zstd", asbytes=True)])
def test_a_directory_is_restored(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    data = tmp_path / "new" / "data"
    restore(io.BytesIO(compress(archive_of(FILES))), data, Silent())
    found = {path.relative_to(data).as_posix(): path for path in data.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == FILES
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in found.values())
    assert data.stat().st_mode & 0o777 == 0o700
    assert list(data.parent.iterdir()) == [data]


def test_an_empty_directory_is_taken_and_no_other(tmp_path: Path) -> None:
    archive = archive_of(FILES)
    data = tmp_path / "data"
    data.mkdir()
    restore(io.BytesIO(archive), data, Silent())
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for taken, words in (
        (data, "not empty"),
        (data / "registry.db", "not a directory"),
        (tmp_path / "link", "not a dir"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            restore(io.BytesIO(archive), taken, Silent())
    assert (data / "registry.db").read_bytes() == FILES["registry.db"]


def assert_refused(archive: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadBackup, match=words):
        restore(io.BytesIO(archive), tmp_path / "in" / "data", Silent())
    assert [path.name for path in tmp_path.rglob("*") if path.name != "in"] == []


def entry(name: str, content: bytes = b"") -> dict[str, Any]:
    return {"name": name, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def tar_of(manifest: dict[str, Any], *members: tarfile.TarInfo) -> bytes:
    """An archive as an attacker makes it, with `tarfile`'s own writer."""
    output = io.BytesIO()
    content = json.dumps(manifest).encode()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as tar:
        head = tarfile.TarInfo("manifest.json")
        head.size = len(content)
        tar.addfile(head, io.BytesIO(content))
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return output.getvalue()


def manifest_of(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    required = [entry("registry.db"), entry("telemetry/points.duckdb")]
    document = json.loads(render_manifest(Manifest("9.9", "now", ())))
    return document | {"files": [*entries, *required]} | changes


HOSTILE_NAMES = [
    *("../evil", "/etc/passwd", "telemetry/../../evil", "..", ".", "", "a/b/c", "a//b", "./a", "a/", ".hidden", "a\\b"),
    *("a\0b", "a\nb", "é", "x" * 101, "~", "C:x"),
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    assert not is_safe_name(name)
    assert_refused(tar_of(manifest_of(entry(name)), tarfile.TarInfo(name)), "do not trust it", tmp_path)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("session.key")
    member.type = kind
    member.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    archive = tar_of(manifest_of(entry("session.key")), member)
    assert_refused(archive, r"no plain file|not where it should be|no backup", tmp_path)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (manifest_of(format_version=2), "format 2.*Headwater 9.9 or newer"),
        (manifest_of(format_version="1"), "damaged"),
        (manifest_of(application="other"), "not a backup"),
        (manifest_of(files=[entry("registry.db")]), "no telemetry/points.duckdb"),
        (manifest_of(files=[]), "not whole"),
        (manifest_of(files=None), "damaged"),
        (manifest_of({"name": "a"}), "damaged"),
        (manifest_of(entry("a") | {"size_bytes": -1}), "damaged"),
        (manifest_of(entry("a") | {"size_bytes": 2**63}), "damaged"),
        (manifest_of(entry("a") | {"sha256": "0"}), "damaged"),
        (manifest_of(entry("a"), entry("A")), "twice"),
        (manifest_of(entry("a"), entry("a/b")), "twice"),
    ],
)
def test_wrong_manifests_are_refused(tmp_path: Path, manifest: dict[str, Any], words: str) -> None:
    assert_refused(tar_of(manifest), words, tmp_path)


def test_files_beyond_the_manifest_are_refused(tmp_path: Path) -> None:
    members = [tarfile.TarInfo(name) for name in ("registry.db", "telemetry/points.duckdb", "more")]
    assert_refused(tar_of(manifest_of(), *members), "does not name", tmp_path)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lambda data: pa.compress(data, "zstd", asbytes=True)])
def test_a_truncated_archive_is_refused(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    archive = compress(archive_of(FILES)[:-512])  # the second of the two blocks at the end says nothing
    for length in (0, 1, 100, len(archive) // 2, len(archive) - 20):
        assert_refused(archive[:length], "not a backup|cut off|damaged", tmp_path)


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    """But for those that say nothing: padding, dates and rights."""
    archive = archive_of(FILES)
    for offset in range(0, len(archive), 7):
        changed = bytearray(archive)
        changed[offset] ^= 0xFF
        try:
            assert read(bytes(changed)) == FILES
        except BadBackup:
            continue


@given(st.binary(max_size=3000))
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(BadBackup):
        read(content)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_is_no_manifest_is_refused(document: Any) -> None:
    with pytest.raises(BadBackup):
        parse_manifest(json.dumps(document).encode())


def test_a_file_larger_than_a_plain_header_can_say_is_written_as_tar_does() -> None:
    huge = FileEntry("telemetry/points.duckdb", 2**40, "0" * 64)
    output = io.BytesIO()
    manifest = Manifest("1.0", "now", (FileEntry("registry.db", 0, hashlib.sha256().hexdigest()), huge))
    with pytest.raises(RuntimeError, match="shorter"):
        write_archive(output, manifest, {"registry.db": io.BytesIO(), huge.name: io.BytesIO()}, 0)
    files = ArchiveReader(io.BytesIO(output.getvalue())).files()
    assert b"".join(next(files).content) == b""
    assert next(files).entry == huge
