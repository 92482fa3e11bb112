"""Fetching a file over the network: timeouts, retries that go on where the last try broke off, checksums."""

from __future__ import annotations

import errno
import hashlib
import http.client
import queue
import re
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hatrix
from hatrix.errors import DownloadError

__all__ = ["Network", "digest", "fetch", "fetch_text", "shown"]

ANSWER_SECONDS = 20.0
"""How long a server may take to answer each try."""

STALL_SECONDS = 30.0
STALL_BYTES = 4096
TRIES = 5
FIRST_PAUSE = 0.5
CHUNK = 1 << 16
LARGEST_PAGE = 32 << 20
OWN_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class _FinalError(Exception):
    """A failure that trying again would not mend."""


@dataclass(frozen=True)
class Network:
    """How to reach servers: certificate authorities, proxy, hosts trusted without one, and credentials.

    By default what Python and the environment say (``SSL_CERT_FILE``, ``HTTPS_PROXY``, ``NO_PROXY`` …).
    """

    cert: str | None = None
    proxy: str | None = None
    trusted_hosts: frozenset[str] = frozenset()

    def open(self, url: str, headers: dict[str, str], authorization: str | None, seconds: float) -> Any:
        """The response, whose headers have arrived within ``seconds``, the look-up of the name included."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "file"):
            raise _FinalError(f"{parts.scheme or 'no'} scheme: only http, https and file are opened")
        request = urllib.request.Request(url, headers={"User-Agent": _user_agent(), **headers})
        if authorization:
            request.add_unredirected_header("Authorization", authorization)
        opener = self._opener({parts.hostname or "", parts.netloc.rpartition("@")[2]})
        return _within(seconds, lambda: opener.open(request, timeout=STALL_SECONDS))

    def _opener(self, hosts: set[str]) -> urllib.request.OpenerDirector:
        proxies = {"http": self.proxy, "https": self.proxy} if self.proxy else None
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(proxies),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=_tls(self.cert, not hosts & self.trusted_hosts)),
            urllib.request.FileHandler(),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            opener.add_handler(handler)
        return opener


@cache
def _tls(cert: str | None, verify: bool) -> ssl.SSLContext:
    """The settings of a secure connection; reading all certificates takes a while, so once is enough."""
    path = Path(cert).expanduser() if cert else None
    folder = path if path and path.is_dir() else None
    try:
        context = ssl.create_default_context(cafile=None if folder else path, capath=folder)
    except (OSError, ssl.SSLError) as error:
        raise _FinalError(f"the certificates in {path} cannot be read ({_reason(error)})") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def fetch(
    url: str,
    target: Path,
    *,
    label: str,
    size: int | None = None,
    sha256: str | None = None,
    md5: str | None = None,
    limit: int = 4 << 30,
    patience: float = inf,
    progress: bool = True,
    network: Network | None = None,
    authorization: str | None = None,
) -> None:
    """Download ``url`` to the file ``target``.

    Parameters
    ----------
    url, target
        From where and to where. ``target`` is removed if the download fails.
    label
        What the progress bar says. It is shown on stderr, and only where that is a terminal.
    size, sha256, md5
        What the file must have, in bytes and hexadecimal digits.
    limit
        Bytes after which a file of unknown size is refused.
    patience
        Seconds after which to turn away from a server that has not answered yet, all tries together.

    Raises
    ------
    DownloadError
        With the reason alone, for the caller to say what was tried.
    """
    network = network or Network()
    try:
        with _bar(label, size, progress) as advance:
            for seconds in (tries := _Tries(patience)):
                with tries.attempt():
                    done = target.stat().st_size if target.exists() else 0
                    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
                    with network.open(url, headers, authorization, seconds) as response:
                        tries.answered()
                        _receive(response, target, done, size or limit, advance)
        _verify(target, size, sha256, md5)
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, _FinalError):
            raise DownloadError(str(error)) from None
        raise


def fetch_text(
    url: str, *, accept: str, patience: float, network: Network, authorization: str | None = None
) -> tuple[str, str]:
    """A small page as text, and the address it was found at."""
    content, found_at = b"", url
    try:
        for seconds in (tries := _Tries(patience)):
            with tries.attempt(), network.open(url, {"Accept": accept}, authorization, seconds) as page:
                content, found_at = _within(seconds, lambda: page.read(LARGEST_PAGE + 1)), page.geturl()
        if len(content) > LARGEST_PAGE:
            raise _FinalError("the page is absurdly large")
    except _FinalError as error:
        raise DownloadError(str(error)) from None
    return content.decode("utf-8", "replace"), found_at


class _Tries:
    """Iterates over the seconds that each try may take, until one succeeds; `_FinalError` if none does."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.deadline = time.monotonic() + patience
        self.done = False
        self.failure = ""

    def __iter__(self) -> Iterator[float]:
        for pause in (0.0, *(FIRST_PAUSE * 2**again for again in range(TRIES - 1))):
            if self.done:
                return
            left = self.deadline - time.monotonic() - pause
            if left <= 0:
                break
            time.sleep(pause)
            yield min(left, ANSWER_SECONDS)
        if not self.done:
            raise _FinalError(self.failure)

    def answered(self) -> None:
        """From here on the server deserves all tries."""
        self.deadline = inf

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """A failure inside that may pass is kept for later; any other becomes `_FinalError`."""
        try:
            yield
            self.done = True
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.failure = _temporary(error)
            answered = not isinstance(error, urllib.error.URLError) or isinstance(
                error, urllib.error.HTTPError
            )
            if not answered and self.patience < inf:
                raise _FinalError(self.failure) from None


def _receive(
    response: Any, target: Path, done: int, limit: int, advance: Callable[[int, int | None], None]
) -> None:
    resumed = done and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
    done = done if resumed else 0
    length = response.headers.get("Content-Length", "")
    expected = done + int(length) if length.isdigit() else None
    if (expected or 0) > limit:
        raise _FinalError(f"the server offers {expected:,} bytes, and {limit:,} were expected at most")
    advance(done, expected)
    since, received = time.monotonic(), 0
    with target.open("ab" if resumed else "wb") as file:
        while chunk := response.read1(CHUNK):
            done += len(chunk)
            received += len(chunk)
            if done > limit:
                raise _FinalError(f"the server sends more than the {limit:,} bytes expected")
            file.write(chunk)
            advance(done, expected)
            if time.monotonic() - since > STALL_SECONDS:
                if received < STALL_BYTES:
                    raise TimeoutError(f"{received} bytes in {STALL_SECONDS:g} seconds")
                since, received = time.monotonic(), 0
    if expected is not None and done < expected:
        raise ConnectionError(f"the connection broke off after {done:,} of {expected:,} bytes")


def _verify(target: Path, size: int | None, sha256: str | None, md5: str | None) -> None:
    actual = target.stat().st_size
    if size is not None and actual != size:
        raise _FinalError(f"it has {actual:,} bytes instead of {size:,}")
    for name, wanted in (("sha256", sha256), ("md5", md5)):
        if wanted is not None and (found := digest(target, name)) != wanted:
            raise _FinalError(f"its {name} is {found} instead of {wanted}: not the published file")


def digest(path: Path, name: str = "sha256") -> str:
    """Checksum of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()


def _temporary(error: Exception) -> str:
    """The reason of a failure worth another try; any other is refused."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        code = error.code
        if code < 500 and code not in (408, 425, 429):
            raise _FinalError(f"the server answers {code} {error.reason}")
        return f"the server answers {code} {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise _FinalError(f"its certificate is not valid ({cause.verify_message})")
    if isinstance(cause, socket.gaierror):
        if cause.errno == socket.EAI_NONAME:
            raise _FinalError("its name is not known")
        return "its name cannot be looked up"
    ours = isinstance(cause, OSError) and cause.errno in OWN_FAULTS
    if ours or isinstance(cause, ValueError | FileNotFoundError | http.client.InvalidURL):
        raise _FinalError(_reason(cause))
    return _reason(cause)


def _reason(error: Any) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return shown(str(text)).strip("<>")


def shown(text: str) -> str:
    """The text without the user names and passwords of the addresses in it."""
    return re.sub(r"(\w://)[^/\s@]*@", r"\1", text)


def _user_agent() -> str:
    return f"hatrix/{hatrix.__version__} (Python-urllib; data set download)"


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of ``call``, or TimeoutError; a name look-up cannot be interrupted, so it is left behind."""
    results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    late = threading.Event()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            results.put((None, error))
            return
        results.put((result, None))
        if late.is_set() and hasattr(result, "close"):
            result.close()

    threading.Thread(target=run, daemon=True, name="hatrix-open").start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        late.set()
        raise TimeoutError(f"no answer within {round(seconds, 1):g} seconds") from None
    if error is not None:
        raise error
    return result


@contextmanager
def _bar(label: str, size: int | None, wanted: bool) -> Iterator[Callable[[int, int | None], None]]:
    if not wanted or not sys.stderr.isatty():
        yield lambda done, total: None  # noqa: ARG005
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=size)
        yield lambda done, total: bar.update(task, completed=done, total=total or size)
