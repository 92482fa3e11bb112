"""A download against servers that stall, break off, lie, redirect and fail."""

from __future__ import annotations

import hashlib
import io
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hatrix.data import download
from hatrix.data.download import Network, fetch, fetch_text, shown
from hatrix.errors import DownloadError

BODY = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.01)


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "file"


def test_a_file_arrives_whole_and_is_asked_for_politely(site, target):
    site.pages["/f"] = BODY
    fetch(f"{site.url}/f", target, label="f", size=len(BODY), sha256=SHA256)
    assert target.read_bytes() == BODY
    [(_, headers)] = site.asked
    assert headers["user-agent"].startswith("hatrix/")
    assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("code", [500, 502, 503, 429, 408])
def test_a_passing_failure_is_tried_again(site, target, answer, code):
    def flaky(handler):
        answer(handler, *((b"", code) if site.count("/f") < 3 else (BODY,)))

    site.pages["/f"] = flaky
    fetch(f"{site.url}/f", target, label="f", sha256=SHA256, patience=5.0)
    assert target.read_bytes() == BODY
    assert site.count("/f") == 3


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_lasting_failure_is_not(site, target, answer, code):
    site.pages["/f"] = lambda handler: answer(handler, b"", code)
    with pytest.raises(DownloadError, match=f"answers {code}"):
        fetch(f"{site.url}/f", target, label="f")
    assert site.count("/f") == 1
    assert not target.exists()


def test_a_server_that_always_fails_is_given_up(site, target, answer):
    site.pages["/f"] = lambda handler: answer(handler, b"", 500)
    with pytest.raises(DownloadError, match="answers 500"):
        fetch(f"{site.url}/f", target, label="f")
    assert site.count("/f") == download.TRIES


def test_a_broken_transfer_goes_on_where_it_stopped(site, target):
    def half(handler):
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(BODY) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        handler.end_headers()
        handler.wfile.write(BODY[start : start + 100_000])
        handler.close_connection = True

    site.pages["/f"] = half
    fetch(f"{site.url}/f", target, label="f", sha256=SHA256)
    assert target.read_bytes() == BODY
    assert [headers.get("range") for _, headers in site.asked] == [None, "bytes=100000-", "bytes=200000-"]


def test_a_server_without_ranges_starts_over(site, target):
    def cut(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY if site.count("/f") > 1 else BODY[:1000])
        handler.close_connection = True

    site.pages["/f"] = cut
    fetch(f"{site.url}/f", target, label="f", sha256=SHA256)
    assert target.read_bytes() == BODY


def test_a_transfer_that_never_completes_leaves_nothing(site, target):
    def cut(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY[:1000])
        handler.close_connection = True

    site.pages["/f"] = cut
    with pytest.raises(DownloadError, match=r"broke off after 1,000 of 256,000 bytes"):
        fetch(f"{site.url}/f", target, label="f")
    assert not target.exists()


def test_a_chunked_transfer_that_breaks_off_is_noticed(site, target):
    def cut(handler):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"400\r\n" + BODY[:1024] + b"\r\n400\r\nabc")
        handler.close_connection = True

    site.pages["/f"] = cut
    with pytest.raises(DownloadError):
        fetch(f"{site.url}/f", target, label="f")
    assert not target.exists()


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"sha256": "0" * 64}, f"sha256 is {SHA256} instead of 0000"),
        ({"md5": "0" * 32}, "md5 is .* instead of 0000"),
        ({"size": len(BODY) + 1}, "it has 256,000 bytes instead of 256,001"),
        ({"size": 1000}, "offers 256,000 bytes, and 1,000 were expected"),
        ({"limit": 1000}, "offers 256,000 bytes, and 1,000 were expected"),
    ],
)
def test_another_file_is_refused_and_removed(site, target, wanted, reason):
    site.pages["/f"] = BODY
    with pytest.raises(DownloadError, match=reason):
        fetch(f"{site.url}/f", target, label="f", **wanted)
    assert not target.exists()
    assert site.count("/f") == 1


def test_a_server_that_sends_without_end_is_cut_off(site, target):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(10_000))

    site.pages["/f"] = endless
    with pytest.raises(DownloadError, match="sends more than the 100,000 bytes"):
        fetch(f"{site.url}/f", target, label="f", limit=100_000)
    assert not target.exists()


SILENCE = 60
"""Seconds for which a server or a name server says nothing: so long that even a busy machine gives up well before."""


def test_a_trickle_is_a_stall(site, target, monkeypatch):
    monkeypatch.setattr(download, "STALL_SECONDS", 0.1)
    monkeypatch.setattr(download, "TRIES", 2)

    def trickle(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "10000")
        handler.end_headers()
        for _ in range(SILENCE * 50):
            handler.wfile.write(b"x")
            time.sleep(0.02)

    site.pages["/f"] = trickle
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"bytes in 0\.1 seconds"):
        fetch(f"{site.url}/f", target, label="f")
    assert time.monotonic() - start < SILENCE / 2


def test_a_silent_server_costs_no_more_than_the_patience(site, target):
    def silent(_):
        time.sleep(SILENCE)

    site.pages["/f"] = silent
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"no answer within 0\.3 seconds"):
        fetch(f"{site.url}/f", target, label="f", patience=0.3)
    assert time.monotonic() - start < SILENCE / 2


def test_a_name_server_that_hangs_costs_no_more_either(target, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(SILENCE))
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"no answer within 0\.3 seconds"):
        fetch("http://origin.invalid/f", target, label="f", patience=0.3)
    assert time.monotonic() - start < SILENCE / 2


def test_failures_before_an_answer_share_the_patience(site, target, answer, monkeypatch):
    paused = []
    monkeypatch.setattr(download, "FIRST_PAUSE", 20.0)
    monkeypatch.setattr(download.time, "sleep", paused.append)
    site.pages["/f"] = lambda handler: answer(handler, b"", 503)
    with pytest.raises(DownloadError, match="answers 503"):
        fetch(f"{site.url}/f", target, label="f", patience=30.0)
    assert [pause for pause in paused if pause] == [20.0]  # the next would be of 40 seconds
    assert site.count("/f") == 2


@pytest.mark.parametrize(
    ("code", "reason", "lookups"),
    [(socket.EAI_NONAME, "name is not known", 1), (socket.EAI_AGAIN, "name cannot be looked up", 5)],
)
def test_names_that_cannot_be_looked_up(target, monkeypatch, code, reason, lookups):
    asked = []

    def unknown(*_, **__):
        asked.append(True)
        raise socket.gaierror(code, "some words")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadError, match=reason):
        fetch("http://origin.invalid/f", target, label="f")
    assert len(asked) == lookups


def test_a_closed_port_is_asked_once_where_there_is_a_mirror(target, monkeypatch):
    monkeypatch.setattr(download, "FIRST_PAUSE", float(SILENCE))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/f"
        start = time.monotonic()
        with pytest.raises(DownloadError, match="refused"):
            fetch(url, target, label="f", patience=5 * SILENCE)
        assert time.monotonic() - start < SILENCE / 2


def test_redirects_are_followed_without_the_password(site, target, answer):
    site.pages["/old"] = lambda handler: answer(handler, b"", 302, Location="/new")
    site.pages["/new"] = BODY
    fetch(f"{site.url}/old", target, label="f", sha256=SHA256, authorization="Basic c2VjcmV0")
    assert [(path, headers.get("authorization")) for path, headers in site.asked] == [
        ("/old", "Basic c2VjcmV0"),
        ("/new", None),
    ]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/f", "/loop"])
def test_redirects_to_nowhere_good_are_not(site, target, answer, location):
    site.pages["/loop"] = lambda handler: answer(handler, b"", 302, Location=location)
    with pytest.raises(DownloadError):
        fetch(f"{site.url}/loop", target, label="f")
    assert not target.exists()


@pytest.mark.parametrize("url", ["ftp://example.org/f", "data:,x", "/etc/passwd", ""])
def test_only_web_and_file_addresses_are_opened(target, url):
    with pytest.raises(DownloadError, match="only http, https and file"):
        fetch(url, target, label="f")


def test_file_addresses(tmp_path, target):
    (tmp_path / "there").write_bytes(BODY)
    fetch((tmp_path / "there").as_uri(), target, label="f", sha256=SHA256)
    assert target.read_bytes() == BODY
    with pytest.raises(DownloadError, match="No such file"):
        fetch((tmp_path / "missing").as_uri(), target, label="f")


def test_an_interrupt_leaves_nothing(site, target, monkeypatch):
    site.pages["/f"] = BODY

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_receive", interrupted)
    target.write_bytes(b"half")
    with pytest.raises(KeyboardInterrupt):
        fetch(f"{site.url}/f", target, label="f")
    assert not target.exists()


def test_a_full_disk_is_not_tried_again(site, target, monkeypatch):
    site.pages["/f"] = BODY

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_receive", full)
    with pytest.raises(DownloadError, match="No space left"):
        fetch(f"{site.url}/f", target, label="f")
    assert site.count("/f") == 1


def test_unreadable_certificates_are_named(site, target, tmp_path):
    (tmp_path / "bad.pem").write_text("no certificate")
    for path in (tmp_path / "bad.pem", tmp_path / "missing.pem"):
        with pytest.raises(DownloadError, match=f"certificates in .*{path.name} cannot be read"):
            fetch(f"{site.url}/f", target, label="f", network=Network(cert=str(path)))


def test_progress_is_quiet_when_not_a_terminal(site, target, capfd):
    site.pages["/f"] = BODY
    fetch(f"{site.url}/f", target, label="f", progress=True)
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_the_terminal_on_stderr(site, target, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    site.pages["/f"] = BODY
    fetch(f"{site.url}/f", target, label="ml-tiny", progress=True)
    assert "ml-tiny" in sys.stderr.getvalue()
    assert capsys.readouterr().out == ""


def test_pages_are_text_with_a_limit(site, answer, monkeypatch):
    site.pages["/old"] = lambda handler: answer(handler, b"", 301, Location="/page")
    site.pages["/page"] = "grüß".encode()
    found = fetch_text(f"{site.url}/old", accept="text/html", patience=5.0, network=Network())
    assert found == ("grüß", f"{site.url}/page")
    monkeypatch.setattr(download, "LARGEST_PAGE", 3)
    with pytest.raises(DownloadError, match="absurdly large"):
        fetch_text(f"{site.url}/page", accept="text/html", patience=5.0, network=Network())


def test_passwords_are_not_shown():
    assert shown("at https://me:s3cret@host/x and http://tok@h") == "at https://host/x and http://h"
    assert shown("https://host/a@b") == "https://host/a@b"


@pytest.fixture
def secure_site(site, tmp_path):
    """The site behind TLS with a certificate that nobody has vouched for; yields (address, certificate)."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
    site.server.handle_error = lambda *_: None
    return site.url.replace("http:", "https:"), cert


def test_a_certificate_nobody_vouches_for(site, secure_site, target):
    url, cert = secure_site
    site.pages["/f"] = BODY
    with pytest.raises(DownloadError, match=r"its certificate is not valid \(self.signed certificate\)"):
        fetch(f"{url}/f", target, label="f")
    assert not site.asked
    for network in (Network(cert=str(cert)), Network(trusted_hosts=frozenset({"127.0.0.1"}))):
        fetch(f"{url}/f", target, label="f", sha256=SHA256, network=network)
        target.unlink()
    with pytest.raises(DownloadError, match="certificate is not valid"):
        fetch(f"{url}/f", target, label="f", network=Network(trusted_hosts=frozenset({"elsewhere"})))
