"""The settings of pip and uv, and indexes of both formats on loopback and in folders."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hatrix.data import package_index
from hatrix.data.download import Network
from hatrix.data.package_index import PYPI, Link, Settings, find, settings
from hatrix.errors import DownloadError

WHEEL = "demo_data-1.0-py3-none-any.whl"


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Path:
    """A home without any settings."""
    for name in [*os.environ]:
        if name.startswith(("PIP_", "UV_", "XDG_")) or name in ("REQUESTS_CA_BUNDLE", "NETRC"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / ".config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    hidden = [Path("/etc/pip.conf"), Path("/etc/uv/uv.toml")]
    pip_files = package_index._pip_files
    monkeypatch.setattr(
        package_index, "_pip_files", lambda env: [path for path in pip_files(env) if path not in hidden]
    )
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def only(index: str, **network: object) -> Settings:
    return Settings((index,), (), Network(**network))


@pytest.mark.usefixtures("machine")
def test_without_settings_it_is_pypi():
    assert settings() == Settings((PYPI,), (), Network())


def test_pip_files_from_the_weakest_to_the_strongest(machine, monkeypatch):
    places = [
        machine / "xdg" / "pip" / "pip.conf",
        machine / "home" / ".pip" / "pip.conf",
        machine / "home" / ".config" / "pip" / "pip.conf",
        machine / "venv" / "pip.conf",
        machine / "chosen.conf",
    ]
    monkeypatch.setenv("PIP_CONFIG_FILE", str(places[-1]))
    for number, place in enumerate(places):
        write(place, f"[global]\nindex-url = https://{number}.example/simple\n")
        if place == places[-1]:
            continue  # the files of the user are left out beside a chosen one
        monkeypatch.setenv("PIP_CONFIG_FILE", "")
        assert settings().indexes == (f"https://{number}.example/simple",)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(places[-1]))
    assert settings().indexes == ("https://4.example/simple",)
    monkeypatch.setenv("PIP_INDEX_URL", "https://5.example/simple")
    assert settings().indexes == ("https://5.example/simple",)


def test_pip_options_in_all_spellings(machine):
    write(
        machine / "home/.config/pip/pip.conf",
        "[install]\nextra_index_url =\n  https://b.example/simple\n  https://c.example/100%simple\n"
        "[global]\nIndex-URL = https://a.example/simple\nextra-index-url = https://never.example\n"
        "cert = /ca.pem\nproxy = http://proxy:3128\ntrusted-host = a.example b.example:8443\n"
        "find-links = /wheels\n",
    )
    assert settings() == Settings(
        ("https://a.example/simple", "https://b.example/simple", "https://c.example/100%simple"),
        ("/wheels",),
        Network("/ca.pem", "http://proxy:3128", frozenset({"a.example", "b.example:8443"})),
    )


def test_pip_can_be_told_to_ask_nobody(machine, monkeypatch):
    write(machine / "home/.config/pip/pip.conf", "[global]\nno-index = true\nfind-links = /wheels\n")
    assert settings() == Settings((), ("/wheels",), Network())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert settings() == Settings((PYPI,), (), Network())


def test_settings_that_cannot_be_read_are_named(machine):
    path = write(machine / "home/.config/pip/pip.conf", "index-url = https://user:s3cret@a.example\n")
    with pytest.raises(DownloadError, match=str(path)) as error:
        settings()
    assert "s3cret" not in str(error.value)
    path.unlink()
    path = write(machine / "home/.config/uv/uv.toml", "index-url = \n")
    with pytest.raises(DownloadError, match=str(path)):
        settings()


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("variable", ["UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL"])
def test_a_default_index_takes_the_place_of_pypi(monkeypatch, variable):
    monkeypatch.setenv(variable, "https://a.example/simple")
    assert settings().indexes == ("https://a.example/simple",)


@pytest.mark.usefixtures("machine")
def test_uv_variables(monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "corp=https://a.example/simple")
    monkeypatch.setenv("UV_INDEX", "more=https://b.example/simple?x=y https://c.example/simple?x=y")
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", "https://d.example/simple")
    monkeypatch.setenv("UV_FIND_LINKS", "/one,/two")
    found = settings()
    assert found.indexes == (
        "https://a.example/simple",
        "https://b.example/simple?x=y",
        "https://c.example/simple?x=y",
        "https://d.example/simple",
    )
    assert found.find_links == ("/one", "/two")


def test_uv_files(machine, monkeypatch):
    path = write(
        machine / "home/.config/uv/uv.toml",
        'extra-index-url = ["https://c.example/simple"]\n'
        '[[index]]\nname = "b"\nurl = "https://b.example/simple"\n'
        '[[index]]\nurl = "https://a.example/simple"\ndefault = true\n',
    )
    expected = ("https://a.example/simple", "https://b.example/simple", "https://c.example/simple")
    assert settings().indexes == expected
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    assert settings().indexes == (PYPI,)
    monkeypatch.delenv("UV_NO_CONFIG")
    monkeypatch.setenv("UV_CONFIG_FILE", str(path.rename(machine / "elsewhere.toml")))
    assert settings().indexes == expected


@pytest.mark.usefixtures("machine")
def test_the_same_places_as_pip_itself():
    """pip, where it is installed, says which files it reads."""
    pip = pytest.importorskip("pip._internal.configuration")
    script = "from pip._internal.configuration import get_configuration_files as f; import json; "
    script += "print(json.dumps([p for files in f().values() for p in files]))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert pip
    ours = {str(path) for path in package_index._pip_files({})} | {"/etc/pip.conf"}
    of_python = (sys.base_prefix, str(Path(sys.executable).parents[1]))  # this process has another prefix
    theirs = {path for path in json.loads(found.stdout) if not path.startswith(of_python)}
    assert {path for path in theirs if "home" in path or "xdg" in path or path.startswith("/etc")} <= ours


def html(*links: str) -> bytes:
    return "".join(f'<a href="{link}" data-x>text</a>' for link in links).encode()


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("href", "url"),
    [
        (f"../../files/{WHEEL}#sha256=00", f"/files/{WHEEL}"),
        (f"/files/{WHEEL}", f"/files/{WHEEL}"),
        (f"{WHEEL}?token=1#x", f"/simple/demo/{WHEEL}?token=1"),
        (WHEEL.replace("-", "%2D"), f"/simple/demo/{WHEEL}".replace("-", "%2D")),
    ],
)
def test_an_html_index(site, href, url):
    site.pages["/simple/demo/"] = html("demo_data-0.9.tar.gz", href, f"{WHEEL}.metadata")
    assert list(find("demo", WHEEL, only(f"{site.url}/simple"))) == [Link(site.url + url, None)]
    assert "application/vnd.pypi.simple.v1+json" in site.asked[0][1]["accept"]


@pytest.mark.usefixtures("machine")
def test_an_html_page_with_a_base(site):
    site.pages["/simple/demo/"] = b'<base href="/elsewhere/x/">' + html(WHEEL)
    [link] = find("demo", WHEEL, only(f"{site.url}/simple/"))
    assert link.url == f"{site.url}/elsewhere/x/{WHEEL}"


@pytest.mark.usefixtures("machine")
def test_a_json_index(site, answer):
    file = {"filename": WHEEL, "url": f"../../f/{WHEEL}", "size": 1}
    page = {"meta": {"api-version": "1.1"}, "files": [file]}
    site.pages["/simple/demo/"] = lambda handler: answer(
        handler, json.dumps(page).encode(), Content_Type="application/vnd.pypi.simple.v1+json"
    )
    assert list(find("demo", WHEEL, only(f"{site.url}/simple"))) == [Link(f"{site.url}/f/{WHEEL}", None)]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    "page", [b"{", b"{}", b'{"files": [1]}', b'{"files": {"a": 1}}', b"[]", b"", b"\xff\xfe"]
)
def test_an_answer_that_is_no_index(site, page):
    site.pages["/simple/demo/"] = page
    [error] = find("demo", WHEEL, only(f"{site.url}/simple"))
    assert isinstance(error, DownloadError)
    assert site.url in str(error)


@pytest.mark.usefixtures("machine")
def test_each_index_in_turn_and_the_reason_where_there_is_none(site, tmp_path):
    site.pages["/a/demo/"] = html("demo_data-0.9.tar.gz")
    site.pages["/c/demo/"] = html(WHEEL)
    indexes = tuple(f"{site.url}/{name}" for name in "abc")
    where = Settings(indexes, (str(tmp_path / "none"),), Network())
    missing, old, unknown, link = find("demo", WHEEL, where)
    assert "No such file" in str(missing)
    assert f"has no {WHEEL}" in str(old)
    assert "404" in str(unknown)
    assert link == Link(f"{site.url}/c/demo/{WHEEL}", None)
    [forbidden] = find("demo", WHEEL, Settings((), (), Network()))
    assert "forbid" in str(forbidden)


@pytest.mark.usefixtures("machine")
def test_folders(tmp_path):
    wheels = write(tmp_path / "wheels" / WHEEL, "").parent
    index = tmp_path / "in dex"
    write(index / "demo" / "index.html", f'<a href="../../wheels/{WHEEL}">x</a>')
    expected = [Link((wheels / WHEEL).as_uri(), None)]
    assert list(find("demo", WHEEL, Settings((), (str(wheels),), Network()))) == expected
    assert list(find("demo", WHEEL, Settings((), (wheels.as_uri(),), Network()))) == expected
    assert list(find("demo", WHEEL, only(index.as_uri()))) == expected
    assert list(find("demo", WHEEL, only(str(index)))) == expected


@pytest.mark.usefixtures("machine")
def test_a_page_cannot_point_into_this_machine(site, tmp_path):
    write(tmp_path / WHEEL, "")
    site.pages["/simple/demo/"] = html((tmp_path / WHEEL).as_uri())
    [error] = find("demo", WHEEL, only(f"{site.url}/simple"))
    assert isinstance(error, DownloadError)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.usefixtures("machine")
def test_passwords_are_sent_home_only_and_never_shown(site):
    secret = site.url.replace("://", "://me:p%40ss@") + "/simple"
    site.pages["/simple/demo/"] = html(WHEEL)
    [link] = find("demo", WHEEL, only(secret))
    assert site.asked[0][1]["authorization"] == basic("me", "p@ss")
    assert link == Link(f"{site.url}/simple/demo/{WHEEL}", basic("me", "p@ss"))
    site.pages["/simple/demo/"] = html(f"http://127.0.0.1:1/{WHEEL}")
    [link] = find("demo", WHEEL, only(secret))
    assert link == Link(f"http://127.0.0.1:1/{WHEEL}", None)
    del site.pages["/simple/demo/"]
    [error] = find("demo", WHEEL, only(secret))
    for text in (str(error), repr(link), repr(Link(secret, None))):
        assert "p%40ss" not in text
        assert "p@ss" not in text


def test_passwords_from_netrc(site, machine):
    write(machine / "home" / ".netrc", "machine 127.0.0.1 login me password s3cret\n").chmod(0o600)
    site.pages["/simple/demo/"] = html(WHEEL)
    [link] = find("demo", WHEEL, only(f"{site.url}/simple"))
    assert link.authorization == basic("me", "s3cret")


@pytest.mark.usefixtures("machine")
def test_a_proxy_is_used(site):
    site.pages["http://index.example/simple/demo/"] = html(WHEEL)
    [link] = find("demo", WHEEL, only("http://index.example/simple", proxy=site.url))
    assert link == Link(f"http://index.example/simple/demo/{WHEEL}", None)
