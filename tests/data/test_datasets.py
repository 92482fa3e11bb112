"""Named data sets: where they are looked for, how they arrive, and what the real ones hold."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hatrix import _files
from hatrix.data import cache, catalogue, datasets, download, layouts
from hatrix.data.catalogue import CATALOGUE, DataSet, Mirror
from hatrix.data.layouts import LAYOUTS, lightgcn_parts
from hatrix.errors import DataError, DownloadError, ParameterError

RATINGS = b"userId,movieId,rating,timestamp\r\n1,10,4.5,100\r\n2,20,0.5,200\r\n1,20,3.0,300\r\n"
MOVIES = b"movieId,title,genres\r\n10,Ten (1999),Drama|War\r\n20,Twenty,Comedy\r\n"
WHEEL = "tinydata-1.0-py3-none-any.whl"
MIRRORED = ("https://pypi.org/simple",)


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


ZIP = packed({"tiny/ratings.csv": RATINGS, "tiny/movies.csv": MOVIES, "tiny/genome-scores.csv": b"1"})


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A machine without data sets; the cache is in the returned folder's ``cache/hatrix/datasets``."""
    monkeypatch.setenv("HATRIX_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.01)
    return tmp_path


@pytest.fixture
def tiny(home, site, monkeypatch) -> DataSet:
    """A data set whose origin is the site on loopback, with a mirror on the index there."""
    mirror = Mirror("tinydata", WHEEL, hashlib.sha256(ZIP).hexdigest(), "tiny")
    entry = replace(
        CATALOGUE["ml-latest-small"], name="tiny", rows=3, users=2, items=2, url=f"{site.url}/tiny.zip",
        size=len(ZIP), sha256=hashlib.sha256(ZIP).hexdigest(), mirror=mirror,
    )  # fmt: skip
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    monkeypatch.setenv("PIP_INDEX_URL", f"{site.url}/simple")
    assert home.is_dir()
    return entry


def in_cache(home: Path) -> set[str]:
    root = home / "cache" / "hatrix" / "datasets"
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


WHOLE = {f"tiny/{name}" for name in ("ratings.csv", "movies.csv", ".hatrix.json")}


def test_the_origin_is_asked_once(home, site, tiny):
    site.pages["/tiny.zip"] = ZIP
    ratings = datasets.load("tiny")
    assert len(ratings) == 3
    assert ratings.name == "tiny"
    assert ratings.scale == (0.5, 5.0)
    assert ratings.value.tolist() == [4.5, 0.5, 3.0]
    assert ratings.time.tolist() == [100, 200, 300]
    assert ratings.item_table["title"].tolist() == ["Ten (1999)", "Twenty"]
    assert datasets.get("tiny") == home / "cache" / "hatrix" / "datasets" / "tiny"
    assert datasets.load("tiny").fingerprint == ratings.fingerprint
    assert [path for path, _ in site.asked] == ["/tiny.zip"]
    assert in_cache(home) == WHOLE
    manifest = json.loads((datasets.get("tiny") / ".hatrix.json").read_text())
    assert manifest["source"] == tiny.url


@pytest.mark.usefixtures("tiny")
def test_the_data_folder_comes_first(home, site):
    site.pages["/tiny.zip"] = ZIP
    datasets.get("tiny")
    folder = home / "data" / "tiny"
    folder.mkdir(parents=True)
    (folder / "ratings.csv").write_bytes(RATINGS.replace(b"4.5", b"1.5"))
    assert datasets.get("tiny") == folder
    assert datasets.load("tiny").value.tolist() == [1.5, 0.5, 3.0]


@pytest.mark.usefixtures("tiny")
def test_a_folder_unpacked_one_level_too_deep(home):
    folder = home / "data" / "tiny" / "tiny"
    folder.mkdir(parents=True)
    (folder / "ratings.csv").write_bytes(RATINGS)
    assert datasets.get("tiny") == folder


def test_the_folder_name_inside_the_zip_of_10m(home):
    folder = home / "data" / "ml-10M100K"
    folder.mkdir(parents=True)
    (folder / "ratings.dat").write_text("1::122::4.5::838985046\n")
    assert datasets.get("ml-10m") == folder


@pytest.mark.usefixtures("tiny")
def test_a_zip_in_the_data_folder_is_checked_and_unpacked(home, site):
    place = home / "data" / "tiny.zip"
    place.parent.mkdir()
    place.write_bytes(ZIP)
    assert len(datasets.load("tiny")) == 3
    assert not site.asked
    assert in_cache(home) == WHOLE


@pytest.mark.usefixtures("tiny")
def test_another_zip_in_the_data_folder_is_not_taken(home, site):
    place = home / "data" / "tiny.zip"
    place.parent.mkdir()
    place.write_bytes(packed({"tiny/ratings.csv": RATINGS}))
    site.pages["/tiny.zip"] = ZIP
    assert len(datasets.load("tiny")) == 3
    assert site.count("/tiny.zip") == 1
    assert str(place) not in json.loads((datasets.get("tiny") / ".hatrix.json").read_text())["source"]


@pytest.mark.usefixtures("tiny")
def test_data_cut_short_in_the_data_folder_is_said(home):
    folder = home / "data" / "tiny"
    folder.mkdir(parents=True)
    (folder / "ratings.csv").write_bytes(b"".join(RATINGS.splitlines(keepends=True)[:-1]))
    with pytest.warns(UserWarning, match="has 2 ratings, and tiny as published 3"):
        datasets.load("tiny")


def serve_mirror(site, content: bytes = ZIP) -> None:
    site.pages["/simple/tinydata/"] = f'<a href="/files/{WHEEL}">x</a>'.encode()
    site.pages[f"/files/{WHEEL}"] = content


@pytest.mark.usefixtures("tiny")
def test_the_mirror_stands_in(home, site, capsys):
    serve_mirror(site)
    assert len(datasets.load("tiny")) == 3
    [note] = capsys.readouterr().err.splitlines()
    assert note == (
        f"tiny cannot be had from its origin ({site.url}/tiny.zip: the server answers 404 Not Found); downloading it "
        f"from the package tinydata 1.0 ({WHEEL}) of the package index, checked by its SHA-256"
    )
    assert len(datasets.load("tiny")) == 3
    assert capsys.readouterr().err == ""
    assert [path for path, _ in site.asked] == ["/tiny.zip", "/simple/tinydata/", f"/files/{WHEEL}"]
    assert in_cache(home) == WHOLE | {"tiny/genome-scores.csv"}


@pytest.mark.usefixtures("home", "tiny")
def test_nothing_is_said_where_the_caller_wants_it_quiet_or_the_origin_answers(site, capsys):
    site.pages["/tiny.zip"] = ZIP
    datasets.get("tiny")
    shutil.rmtree(datasets.get("tiny"))
    del site.pages["/tiny.zip"]
    serve_mirror(site)
    datasets.get("tiny", progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_data_set_that_has_a_mirror_alone_says_where_it_comes_from(site, tiny, monkeypatch, capsys):
    monkeypatch.setitem(CATALOGUE, "tiny", replace(tiny, url=None))
    serve_mirror(site)
    datasets.get("tiny")
    assert capsys.readouterr().err.startswith(f"downloading tiny from the package tinydata 1.0 ({WHEEL}) of ")


def test_mirrors_have_a_package_with_a_version():
    mirrors = [entry.mirror for entry in CATALOGUE.values() if entry.mirror]
    assert [mirror.package for mirror in mirrors] == ["recbole 1.2.1", "lenskit 2025.8.1"]


def test_the_mirror_may_be_a_tar(home, site, tiny, monkeypatch):
    content = tarred({"t/data/ratings.csv": RATINGS, "t/setup.py": b"", "t/data/movies.csv": MOVIES})
    mirror = Mirror("tinydata", "tiny-1.tar.gz", hashlib.sha256(content).hexdigest(), "t/data")
    monkeypatch.setitem(CATALOGUE, "tiny", replace(tiny, mirror=mirror))
    page = {"files": [{"filename": "tiny-1.tar.gz", "url": "../../files/t.gz"}]}
    site.pages["/simple/tinydata/"] = json.dumps(page).encode()
    site.pages["/files/t.gz"] = content
    assert len(datasets.load("tiny")) == 3
    assert in_cache(home) == WHOLE


def test_a_conversion_is_checked_too(home, site, tiny, monkeypatch):
    def convert(folder: Path) -> None:
        (folder / "ratings.csv").write_bytes(RATINGS + b"3,10,1.0,1\r\n")

    mirror = replace(tiny.mirror, convert=convert, sha256_after=(("ratings.csv", "0" * 64),))
    monkeypatch.setitem(CATALOGUE, "tiny", replace(tiny, mirror=mirror))
    serve_mirror(site)
    with pytest.raises(DownloadError, match=r"its ratings\.csv is not the published file"):
        datasets.load("tiny")
    assert in_cache(home) == set()
    done = hashlib.sha256(RATINGS + b"3,10,1.0,1\r\n").hexdigest()
    monkeypatch.setitem(
        CATALOGUE, "tiny", replace(tiny, mirror=replace(mirror, sha256_after=(("ratings.csv", done),)))
    )
    with pytest.warns(UserWarning, match="has 4 ratings"):
        assert len(datasets.load("tiny")) == 4
    assert cache.cached(CATALOGUE["tiny"]) is not None


SILENCE = 60
"""Seconds for which a server says nothing: so long that even a busy machine gives up well before."""


@pytest.mark.usefixtures("tiny")
def test_a_silent_origin_costs_its_patience_only(home, site, monkeypatch):
    monkeypatch.setattr(cache, "ORIGIN_PATIENCE", 0.3)
    assert home.is_dir()
    site.pages["/tiny.zip"] = lambda _: time.sleep(SILENCE)
    serve_mirror(site)
    start = time.monotonic()
    assert len(datasets.load("tiny")) == 3
    assert time.monotonic() - start < SILENCE / 2


def test_an_origin_gets_less_than_five_seconds():
    assert cache.ORIGIN_PATIENCE < 5.0


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"tiny/ratings.csv": RATINGS, "tiny/../../evil": b"x"}, "would land outside"),
        ({"/ratings.csv": RATINGS}, "would land outside"),
        ({"tiny/ratings.csv": b"0" * (30 << 20)}, "more than 20 times its size"),
        ({"tiny/movies.csv": MOVIES}, "no file of ratings"),
        ({"ratings.csv": RATINGS}, "no files in"),
    ],
)
def test_bad_archives_leave_nothing(home, site, tiny, monkeypatch, members, reason):
    content = packed(members)
    sha256 = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(CATALOGUE, "tiny", replace(tiny, sha256=sha256, size=len(content), mirror=None))
    site.pages["/tiny.zip"] = content
    with pytest.raises(DownloadError, match=reason):
        datasets.load("tiny")
    assert in_cache(home) == set()
    assert not list((home / "cache" / "hatrix" / "datasets").iterdir())
    assert not (home / "cache" / "hatrix" / "evil").exists()


@pytest.mark.usefixtures("tiny")
def test_the_error_says_what_was_tried_and_what_to_do(home, site, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", site.url.replace("://", "://me:s3cret@") + "/simple")
    site.pages["/tiny.zip"] = ZIP[:-1]
    with pytest.raises(DownloadError) as error:
        datasets.load("tiny")
    message = str(error.value)
    for part in ("tiny is not on this machine", f"{site.url}/tiny.zip: it has", "404", WHEEL, "HATRIX_DATA"):
        assert part in message
    assert CATALOGUE["ml-latest-small"].advice in message
    assert "s3cret" not in message
    assert "\n" not in message
    assert in_cache(home) == set()


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "no manifest"])
@pytest.mark.usefixtures("tiny")
def test_a_damaged_cache_is_fetched_again(home, site, damage):
    site.pages["/tiny.zip"] = ZIP
    folder = datasets.get("tiny")
    movies, manifest = folder / "movies.csv", folder / ".hatrix.json"
    if damage == "flip":
        movies.write_bytes(MOVIES.replace(b"Ten", b"Hen"))
    elif damage == "cut":
        movies.write_bytes(MOVIES[:-5])
    elif damage == "remove":
        movies.unlink()
    elif damage == "manifest":
        manifest.write_text("[]")
    else:
        manifest.unlink()
    assert datasets.load("tiny").item_table["title"].tolist() == ["Ten (1999)", "Twenty"]
    assert site.count("/tiny.zip") == 2
    assert in_cache(home) == WHOLE


def test_a_new_edition_replaces_the_old_one(home, site, tiny, monkeypatch):
    site.pages["/tiny.zip"] = ZIP
    datasets.get("tiny")
    content = packed({"tiny/ratings.csv": RATINGS})
    site.pages["/tiny.zip"] = content
    sha256 = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(CATALOGUE, "tiny", replace(tiny, sha256=sha256, size=len(content)))
    datasets.get("tiny")
    assert in_cache(home) == WHOLE - {"tiny/movies.csv"}


@pytest.mark.usefixtures("tiny")
def test_what_a_killed_process_left_is_swept_away(home, site):
    site.pages["/tiny.zip"] = ZIP
    root = home / "cache" / "hatrix" / "datasets"
    for name in (".hatrix-old.tmp", ".hatrix-new.tmp"):
        (root / name / "0").mkdir(parents=True)
        (root / name / "0" / "tiny.zip").write_bytes(b"half")
    with _files.holding(root / ".hatrix-new.tmp"):  # by a process that runs
        datasets.get("tiny")
    assert {path.name for path in root.iterdir()} == {"tiny", ".hatrix-new.tmp"}


@pytest.mark.usefixtures("tiny")
def test_a_cache_that_cannot_be_written_is_named(home, site):
    site.pages["/tiny.zip"] = ZIP
    (home / "cache").write_text("a file")
    with pytest.raises(DownloadError, match=r"tiny cannot be kept in .*cache.* \(.*\): make room"):
        datasets.load("tiny")


@pytest.mark.usefixtures("tiny")
def test_many_at_once_all_end_well(home, site):
    def slow(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(ZIP)))
        handler.end_headers()
        handler.wfile.write(ZIP[:100])
        handler.wfile.flush()
        time.sleep(0.1)
        handler.wfile.write(ZIP[100:])

    site.pages["/tiny.zip"] = slow
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: len(datasets.load("tiny")), range(8)))
    assert loaded == [3] * 8
    assert in_cache(home) == WHOLE
    assert [path.name for path in (home / "cache" / "hatrix" / "datasets").iterdir()] == ["tiny"]


SCRIPT = """
    import hashlib, signal, sys
    from dataclasses import replace
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started deaf to it
    from hatrix.data import datasets
    from hatrix.data.catalogue import CATALOGUE
    CATALOGUE["tiny"] = replace(
        CATALOGUE["ml-latest-small"], name="tiny", rows=3, url=sys.argv[1], size=int(sys.argv[2]),
        sha256=sys.argv[3], mirror=None,
    )
    print(len(datasets.load("tiny")))
"""


def start(tiny: DataSet) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tiny.url), str(tiny.size), str(tiny.sha256)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_at_once_both_end_well(home, site, tiny):
    site.pages["/tiny.zip"] = ZIP
    both = [start(tiny), start(tiny)]
    assert [process.communicate(timeout=60) for process in both] == [("3\n", "")] * 2
    assert in_cache(home) == WHOLE


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_process_leaves_no_data_set(home, site, tiny, kill):
    begun = []

    def stalls(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(ZIP)))
        handler.end_headers()
        handler.wfile.write(ZIP[:100])
        handler.wfile.flush()
        begun.append(True)
        time.sleep(20)

    site.pages["/tiny.zip"] = stalls
    process = start(tiny)
    while not begun:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(kill)
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert out == ""
    root = home / "cache" / "hatrix" / "datasets"
    if kill == signal.SIGINT:
        assert "KeyboardInterrupt" in err
        assert not list(root.iterdir())
    assert not (root / "tiny").exists()
    site.pages["/tiny.zip"] = ZIP
    assert len(datasets.load("tiny")) == 3


def test_what_changes_over_time_is_checked_by_its_published_sum(home, site, tiny, monkeypatch):
    entry = replace(tiny, sha256=None, size=None, mirror=None)
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    site.pages["/tiny.zip"] = ZIP
    with pytest.raises(DownloadError, match="404"):
        datasets.load("tiny")
    site.pages["/tiny.zip.md5"] = b"<html>moved</html>"
    with pytest.raises(DownloadError, match="has no checksum in it"):
        datasets.load("tiny")
    site.pages["/tiny.zip.md5"] = b"0" * 32 + b"  tiny.zip\n"
    with pytest.raises(DownloadError, match="md5 is"):
        datasets.load("tiny")
    assert in_cache(home) == set()
    md5 = hashlib.md5(ZIP, usedforsecurity=False).hexdigest().upper()
    site.pages["/tiny.zip.md5"] = f"MD5 (tiny.zip) = {md5}\n".encode()
    monkeypatch.setitem(CATALOGUE, "tiny", replace(entry, rows=99))
    assert len(datasets.load("tiny")) == 3
    [row] = [row for row in datasets.table() if row.name == "tiny"]
    assert row.changes


def lightgcn(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text("0 1 2\n1 2\n")
    (folder / "test.txt").write_text("0 3\n1\n")
    return folder


def test_any_folder_in_lightgcns_layout_has_a_name(home):
    folder = lightgcn(home / "data" / "shop")
    (home / "data" / "notes").mkdir()
    assert datasets.names() == [*CATALOGUE, "shop"]
    ratings = datasets.load("shop")
    assert (len(ratings), ratings.implicit, ratings.scale) == (4, True, None)
    assert datasets.get("shop") == folder
    [row] = [row for row in datasets.table() if row.name == "shop"]
    assert (row.rows, row.where, row.changes) == (None, folder, False)


def test_gowalla_is_in_the_data_folder_or_nowhere(home):
    with pytest.raises(
        DownloadError, match=r"download it from: put its files in a folder gowalla into .*LightGCN's"
    ):
        datasets.load("gowalla")
    lightgcn(home / "data" / "gowalla")
    with pytest.warns(UserWarning, match="1,027,370"):
        assert len(datasets.load("gowalla")) == 4


@pytest.mark.parametrize("name", ["ml-100", "ML-100K", "", "../ml-100k", "/etc", None, 7, ["ml-1m"]])
def test_unknown_names(home, name):
    lightgcn(home / "data" / "shop")
    with pytest.raises(ParameterError, match=r"no data set .*ml-32m.*shop.*HATRIX_DATA"):
        datasets.load(name)


def test_a_near_name_is_offered(home):
    assert home.is_dir()
    with pytest.raises(ParameterError, match=r"did you mean ml-100k\?"):
        datasets.get("ml100k")


def test_the_table(home, site, tiny):
    rows = {row.name: row for row in datasets.table()}
    assert list(rows) == datasets.names()
    assert rows["ml-25m"][:6] == ("ml-25m", 25_000_095, 162_541, 59_047, (0.5, 5.0), 261_978_986)
    assert all(row.licence for row in rows.values())
    assert [row.name for row in rows.values() if row.changes] == ["ml-latest"]
    assert rows["tiny"].where is None
    site.pages["/tiny.zip"] = ZIP
    folder = datasets.get("tiny")
    assert {row.name: row.where for row in datasets.table()}["tiny"] == folder
    assert tiny.name == "tiny"
    assert (home / "cache") in folder.parents


def test_the_catalogue_is_complete():
    wanted = ["100k", "1m", "10m", "20m", "25m", "32m", "latest", "latest-small"]
    for size in wanted:
        entry = CATALOGUE[f"ml-{size}"]
        assert entry.url == f"https://files.grouplens.org/datasets/movielens/ml-{size}.zip"
        assert entry.layout in LAYOUTS.values()
        assert entry.changes == (size == "latest")
        assert entry.changes or (len(entry.sha256) == 64 and entry.size)
    assert len({entry.sha256 for entry in CATALOGUE.values() if entry.sha256}) == 7
    assert catalogue.RECBOLE.filename.startswith("recbole-")


def real(name: str) -> Path:
    """The folder of the original files, in a test that is marked as needing them."""
    return Path(os.environ["HATRIX_DATA"]).expanduser() / name


def original(name: str, *counts: object) -> object:
    return pytest.param(name, *counts, marks=pytest.mark.data(name), id=name)


@pytest.mark.parametrize(
    ("name", "rows", "users", "items", "scale"),
    [
        original("ml-100k", 100_000, 943, 1_682, (1.0, 5.0)),
        original("ml-1m", 1_000_209, 6_040, 3_706, (1.0, 5.0)),
        original("ml-latest-small", 100_836, 610, 9_724, (0.5, 5.0)),
        original("gowalla", 1_027_370, 29_858, 40_981, None),
    ],
)
def test_the_real_counts(name, rows, users, items, scale):
    ratings = datasets.load(name)
    assert (len(ratings), len(ratings.users), len(ratings.items)) == (rows, users, items)
    assert ratings.scale == scale
    assert ratings.name == name
    entry = CATALOGUE[name]
    assert (entry.rows, entry.users, entry.items, entry.scale) == (rows, users, items, scale)
    if scale:
        assert (ratings.value.min(), ratings.value.max()) == scale
        assert ratings.item_table["title"].notna().all()
        assert len(ratings.item_table) == items
        assert ratings.item_table["year"].isna().sum() < 20


@pytest.mark.data("ml-100k")
def test_real_ml_100k_is_in_file_order_and_decoded():
    folder = real("ml-100k")
    ratings = datasets.load("ml-100k")
    raw = np.loadtxt(folder / "u.data", np.int64)
    assert np.array_equal(ratings.users.decode(ratings.user), raw[:, 0])
    assert np.array_equal(ratings.items.decode(ratings.item), raw[:, 1])
    assert np.array_equal(ratings.value, raw[:, 2])
    assert np.array_equal(ratings.time, raw[:, 3])
    table = ratings.item_table.set_index(ratings.items.labels)
    assert table.loc[1].tolist() == ["Toy Story (1995)", 1995, "Animation|Children's|Comedy"]
    assert table.loc[1103, "title"] == "Trust (1990)"
    assert table.loc[543, "title"] == "Misérables, Les (1995)"
    assert table.loc[267, ["title", "genres"]].tolist() == ["unknown", "unknown"]
    assert table.index[table["year"].isna()].tolist() == [267]
    assert ratings.user_table.loc[0].tolist() == [24, "M", "technician", "85711"]


@pytest.mark.data("ml-100k")
def test_the_mirror_of_ml_100k_is_the_real_one(tmp_path):
    """Its files are written here from the originals, as recbole writes them."""
    folder = real("ml-100k")
    (tmp_path / "ml-100k.inter").write_bytes(b"a\tb\tc\td\n" + (folder / "u.data").read_bytes())
    users = (folder / "u.user").read_bytes().replace(b"|", b"\t")
    (tmp_path / "ml-100k.user").write_bytes(b"a\tb\tc\td\te\n" + users)
    lines = ["item_id\ttitle\tyear\tclass"]
    for line in (folder / "u.item").read_text("latin-1").splitlines():
        item, full, *_ = fields = line.split("|")
        title, _, year = full.strip().removesuffix(")").rpartition(" (")
        genres = [genre for genre, flag in zip(layouts.GENRES, fields[5:], strict=True) if flag == "1"]
        title, year = ("unkonwn", "unkonwn") if full == "unknown" else (title, year)
        lines.append("\t".join([item, title, year, " ".join(genres)]))
    assert "1412\tLand Before Time III: The Time of the Great Giving (1995)\tV\t" in "\n".join(lines)
    (tmp_path / "ml-100k.item").write_text("\n".join(lines) + "\n", "utf-8")
    layouts.from_recbole(tmp_path)
    for name, sha256 in catalogue.RECBOLE.sha256_after:
        assert download.digest(tmp_path / name) == sha256 == download.digest(folder / name)
    kept = {"scale": (1.0, 5.0), "name": "ml-100k"}
    mirrored = layouts.load_movielens(tmp_path, LAYOUTS["ml-100k"], **kept)
    original = layouts.load_movielens(folder, LAYOUTS["ml-100k"], **kept)
    assert mirrored.fingerprint == original.fingerprint
    assert mirrored.item_table.equals(original.item_table)
    assert mirrored.user_table.equals(original.user_table)


@pytest.mark.data("ml-1m")
def test_real_ml_1m_users():
    users = datasets.load("ml-1m").user_table
    assert users.loc[0].tolist() == ["Under 18", "F", "K-12 student", "48067"]
    assert users.notna().all(axis=None)
    assert set(users["age"]) == {"Under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+"}
    assert users["occupation"].nunique() == 21


@pytest.mark.data("gowalla")
def test_real_gowalla_parts():
    train, test = lightgcn_parts(real("gowalla"))
    assert (len(train.user), len(train.item)) == (810_128, 810_128)
    assert (len(test.user), len(test.item)) == (217_242, 217_242)


def test_errors_of_damaged_real_files_are_data_errors(home):
    folder = home / "data" / "ml-100k"
    folder.mkdir(parents=True)
    (folder / "u.data").write_text("1\t2\tx\t4\n")
    with pytest.raises(DataError):
        datasets.load("ml-100k")
