"""Archives that mean harm, and the files that honest ones unpack to."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrix.data.archive import LARGEST_RATIO, unpack
from hatrix.errors import DownloadError


def make_zip(path: Path, members: dict[str, bytes], **attributes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            packed.writestr(info, content)
    return path


def make_tar(path: Path, members: dict[str, bytes], **attributes: object) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            tar.addfile(info, io.BytesIO(content))
    return path


MAKERS = [pytest.param(make_zip, "a.zip", id="zip"), pytest.param(make_tar, "a.tar.gz", id="tar")]


@pytest.fixture
def into(tmp_path) -> Path:
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_files_come_out_with_their_checksums(tmp_path, into, make, name):
    members = {"top/a.txt": b"one", "top/deep/b.txt": b"", "top/genome.csv": b"large"}
    files = unpack(make(tmp_path / name, members), into, inside="*", skip=frozenset({"genome.csv"}))
    assert files == {
        "a.txt": (3, hashlib.sha256(b"one").hexdigest()),
        "deep/b.txt": (0, hashlib.sha256(b"").hexdigest()),
    }
    assert (into / "a.txt").read_bytes() == b"one"
    assert everything(into) == {"a.txt", "deep", "deep/b.txt"}


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_only_the_named_folder(tmp_path, into, make, name):
    members = {"p/data/ml/a": b"1", "p/data/ml2/b": b"2", "p/c": b"3", "p/data/ml/sub/d": b"4"}
    assert set(unpack(make(tmp_path / name, members), into, inside="p/data/ml")) == {"a", "sub/d"}
    with pytest.raises(DownloadError, match="no files in 'elsewhere'"):
        unpack(tmp_path / name, into, inside="elsewhere")


HOSTILE = ["../evil", "a/../../evil", "/tmp/evil", "a\\..\\evil", "C:/evil", "c:evil", "\\\\host\\evil"]


@pytest.mark.parametrize("member", HOSTILE)
@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_a_path_outside_refuses_the_archive(tmp_path, into, make, name, member):
    archive = make(tmp_path / name, {member: b"evil", "good": b"good"})
    with pytest.raises(DownloadError, match="would land outside"):
        unpack(archive, into)
    assert everything(tmp_path) == {name, "room"}


@given(st.text(st.sampled_from("./\\:ab"), min_size=1, max_size=12))
def test_no_name_whatever_leads_outside(tmp_path_factory, member):
    room = tmp_path_factory.mktemp("r") / "room"
    room.mkdir()
    archive = make_tar(room.parent / "a.tar.gz", {member: b"x"})
    try:
        files = unpack(archive, room)
    except DownloadError:
        files = {}
    assert all((room / name).resolve().is_relative_to(room) for name in files)
    assert {path.name for path in room.parent.iterdir()} == {"a.tar.gz", "room"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar(tmp_path, into, kind):
    archive = make_tar(tmp_path / "a.tar.gz", {"link": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(DownloadError, match="link or a device"):
        unpack(archive, into)
    assert not everything(into)


def test_links_in_a_zip(tmp_path, into):
    archive = make_zip(tmp_path / "a.zip", {"link": b"/etc"}, external_attr=(stat.S_IFLNK | 0o777) << 16)
    with pytest.raises(DownloadError, match="link or a device"):
        unpack(archive, into)
    assert not everything(into)


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_a_bomb_is_refused_by_its_declared_size(tmp_path, into, make, name):
    archive = make(tmp_path / name, {"zeros": bytes(30 << 20)})
    assert archive.stat().st_size < (30 << 20) / LARGEST_RATIO
    with pytest.raises(DownloadError, match="unpacks to more than 20 times"):
        unpack(archive, into)
    assert not everything(into)


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_a_bomb_beside_what_is_wanted_counts_too(tmp_path, into, make, name):
    archive = make(tmp_path / name, {"other/zeros": bytes(30 << 20), "ml/a": b"1"})
    with pytest.raises(DownloadError, match="unpacks to more than 20 times"):
        unpack(archive, into, inside="ml")


def test_a_bomb_that_understates_its_size(tmp_path, into):
    archive = make_zip(tmp_path / "a.zip", {"zeros": bytes(30 << 20)})
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        place = content.index(signature) + offset
        content[place : place + 4] = struct.pack("<I", 1000)
    archive.write_bytes(content)
    with pytest.raises(DownloadError):
        unpack(archive, into)
    assert sum(path.stat().st_size for path in into.rglob("*")) <= 1000


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_one_name_twice(tmp_path, into, make, name):
    archive = make(tmp_path / name, {"a": b"1", "./a": b"2"})
    with pytest.raises(DownloadError, match="in it twice"):
        unpack(archive, into)


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_a_file_where_a_folder_must_be(tmp_path, into, make, name):
    archive = make(tmp_path / name, {"a": b"1", "a/b": b"2"})
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        unpack(archive, into)


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_every_cut_and_many_flips_are_refused_or_harmless(tmp_path, make, name):
    original = bytes(range(256)) * 8
    whole = make(tmp_path / name, {"top/a": original}).read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), 37)]
    damaged += [whole[:n] + bytes([whole[n] ^ 0x40]) + whole[n + 1 :] for n in range(0, len(whole), 11)]
    refused = 0
    for number, content in enumerate(damaged):
        (tmp_path / name).write_bytes(content)
        into = tmp_path / str(number)
        into.mkdir()
        try:
            files = unpack(tmp_path / name, into)
        except DownloadError:
            refused += 1
            continue
        assert set(files) <= everything(into)
        # A tar has no checksums of its contents; those that are fetched have one of the whole.
        assert make is make_tar or all((into / file).read_bytes() == original for file in files)
    assert refused > len(damaged) / 4


def test_neither_zip_nor_tar(tmp_path, into):
    for name in ("page.zip", "page.tar.gz"):
        (tmp_path / name).write_bytes(b"<html>Sign in to the network</html>")
        with pytest.raises(DownloadError, match="cannot be unpacked"):
            unpack(tmp_path / name, into)
    make_zip(tmp_path / "empty.zip", {})
    with pytest.raises(DownloadError, match="it is empty"):
        unpack(tmp_path / "empty.zip", into)


def test_an_encrypted_zip(tmp_path, into):
    archive = make_zip(tmp_path / "a.zip", {"a": b"secret"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    content[content.index(b"PK\3\4") + 6] |= 1
    archive.write_bytes(content)
    with pytest.raises(DownloadError, match="encrypted"):
        unpack(archive, into)
