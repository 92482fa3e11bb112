"""The files of the page, held in memory, and how they and long JSON are sent: packed, and only when they changed."""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request, Response

import hatrix.evaluation
from hatrix.app.problems import Problem
from hatrix.evaluation import charts

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["POLICY", "Text", "answer", "reply"]

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""What the page may load: its own files, and nothing that stands in the page itself."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
}
LEAST_PACKED = 1024


class Text:
    """Bytes with their type, their mark, and the same packed."""

    def __init__(self, data: bytes, kind: str) -> None:
        self.data, self.kind = data, kind
        self.mark = f'"{hashlib.sha256(data).hexdigest()[:32]}"'

    @cached_property
    def packed(self) -> bytes | None:
        """Packed by gzip; None where that gains little."""
        return gzip.compress(self.data, 6, mtime=0) if len(self.data) >= LEAST_PACKED else None


@cache
def files() -> Mapping[str, Text]:
    """The files of the page by the name that addresses them; nothing else can be asked for."""
    here = Path(__file__).parent / "page"
    libraries = Path(hatrix.evaluation.__file__).parent / "vendor"
    found = {path.relative_to(here).as_posix(): path for path in sorted(here.rglob("*")) if path.is_file()}
    found |= {f"vendor/vega/{path.name}": path for path in sorted(libraries.glob("*"))}
    read = {name: _read(path) for name, path in found.items() if path.suffix in TYPES}
    look = json.dumps(charts.theme(), separators=(",", ":")).encode()
    return {**read, "look.json": Text(look, TYPES[".json"])}


def _read(path: Path) -> Text:
    data = path.read_bytes()
    if path.suffix == ".js":  # source maps are not here to be fetched
        data = b"\n".join(line for line in data.split(b"\n") if not line.startswith(b"//# sourceMappingURL="))
    return Text(data, TYPES[path.suffix])


def reply(request: Request, name: str) -> Response:
    """A file of the page.

    Raises
    ------
    Problem
        If there is none of that name.
    """
    text = files().get(name)
    if text is None:
        raise Problem(404, "not-found", "the page has no such file")
    headers = {"Cache-Control": "no-cache"}
    if name.endswith(".html"):
        headers |= {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
    return answer(request, text, headers)


def answer(request: Request, text: Text, headers: Mapping[str, str]) -> Response:
    """The text, packed where the client takes that, or that the client's copy is still good."""
    sent = {**headers, "ETag": text.mark, "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff"}
    if text.mark in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=sent)
    if "gzip" in request.headers.get("accept-encoding", "") and text.packed is not None:
        return Response(text.packed, headers={**sent, "Content-Encoding": "gzip"}, media_type=text.kind)
    return Response(text.data, headers=sent, media_type=text.kind)
