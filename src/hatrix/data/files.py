"""The columns of files of one layout, a whole file or a piece at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hatrix import _files
from hatrix.data import text
from hatrix.data.disk import Disk
from hatrix.data.lines import Piece, pieces_of_text
from hatrix.data.pieces import Columns, joined, total
from hatrix.data.ratings import ReadReport
from hatrix.data.roles import counts_events, known_names, places_of, taken
from hatrix.data.sources import Source
from hatrix.data.tables import ROW_NUMBER, columns_of, parquet, rows_in
from hatrix.errors import DataError

__all__ = ["Files", "How"]

THREADS = 2
LARGEST_PIECE = 1 << 24
"""Bytes of text that are read at a time, where memory allows."""
PIECES_IN_ROOM = 40
LARGEST_AT_ONCE = 1 << 26
"""Bytes of text that are read in one go, where columns are to be in memory."""
PACKED_BYTES = 6
"""Of a rating in packed text, about."""
LARGEST_GROUP = 4
"""Pieces that a row group may be as long as: a piece is read by decoding its group from the beginning."""


@dataclass(frozen=True)
class How:
    """How files are read, as `hatrix.data.read.read` has it."""

    chosen: dict[str, Any]
    separator: str | None
    header: bool | None
    encoding: str | None
    implicit: bool | None
    skip_bad_rows: bool


class Files:
    """Files that are read as one after another, all of the layout of the first.

    ``done`` counts what has been read of ``total``: rows of Parquet files, bytes of text.
    """

    def __init__(self, source: Source, how: How) -> None:
        self.source, self.how = source, how
        self.implicit = how.implicit
        self.done, self.total = 0, 0
        self._first: tuple[Path, Any] | None = None
        self._places: dict[str, int] = {}
        self._state = {path: _state(path) for path in source.files}

    def identity(self) -> dict[str, Any]:
        """What tells these files, read in this way, from others."""
        import hatrix

        files = [[str(path.absolute()), *state] for path, state in self._state.items()]
        return {"files": files, "how": asdict(self.how), "hatrix": hatrix.__version__}

    def whole(self) -> Iterator[Columns]:
        """The columns of each file."""
        return map(self._noted, self._whole())

    def _whole(self) -> Iterator[Columns]:
        for path in self._files():
            if self.source.parquet:
                with parquet(path) as table:
                    places = self._checked(path, table.names, len(table.names), table.kinds)
                    found = table.part(places)
                    yield columns_of(found, self.source.named(path), skip_bad_rows=self.how.skip_bad_rows)
            else:
                with self._text(path) as opened:
                    if opened is not None:
                        yield self._whole_text(path, *opened)
            self._refuse_change(path)

    def in_pieces(self, disk: Disk, rows: int) -> Generator[Columns, None, None]:
        """The columns of a piece of a file at a time: about so many rows, or as much text as memory allows."""
        for path in self._files():
            pieces = self._pieces_of_table if self.source.parquet else self._pieces_of_text
            yield from map(self._noted, pieces(path, disk, rows))
            self._refuse_change(path)

    def _noted(self, found: Columns) -> Columns:
        """Return the columns with a report that gives the role of each column."""
        assert self._first is not None
        _, _, names, width = self._first[1]
        return found._replace(report=replace(found.report, columns=taken(self._places, names, width)))

    def _files(self) -> list[Path]:
        """Return the files to read: all of them, but no Parquet file without rows if another one has some.

        A file without rows can have any column types, so its types say nothing about the layout.
        """
        files = self.source.files
        if not self.source.parquet or len(files) == 1:
            return files
        return [path for path in files if rows_in([path])] or files

    def measure(self) -> int:
        """Set ``total``, and return about how many rows there are."""
        if self.source.parquet:
            self.total = rows_in(self.source.files)
            return self.total
        self.total = sum(size for size, _ in self._state.values())
        first = self.source.files[0]
        if text.packing(first):
            return self.total // PACKED_BYTES
        with open(first, "rb") as file:
            start = file.read(1 << 20)
        return int(self.total / len(start) * start.count(b"\n")) if start else 0

    def _whole_text(self, path: Path, plain: Path, layout: text.Layout) -> Columns:
        if plain.stat().st_size <= LARGEST_AT_ONCE:
            named = self.source.named(path)
            found = text.parsed(plain, named, layout, self._places)
            if not self.how.skip_bad_rows:
                text.refuse_bad(found.report, named)
            return found
        with _files.scratch() as folder:
            pieces = self._sound_pieces(path, plain, layout, LARGEST_PIECE, folder)
            return joined(piece for piece, _ in pieces)

    def _pieces_of_table(self, path: Path, disk: Disk, rows: int) -> Iterator[Columns]:
        with parquet(path, disk.room() // 4, disk.folder) as table:
            places = self._checked(path, table.names, len(table.names), table.kinds)
            if table.in_group > LARGEST_GROUP * rows or ROW_NUMBER in map(str.lower, table.names):
                table = table.regrouped(places, rows, disk.path("piece-0"))
                places = {role: at for at, role in enumerate(places)}
            named = self.source.named(path)
            for start in range(0, table.rows, rows):
                stop = min(start + rows, table.rows)
                found = table.part(places, start, stop)
                yield columns_of(found, named, skip_bad_rows=self.how.skip_bad_rows, first=start)
                self.done += stop - start
            disk.path("piece-0").unlink(missing_ok=True)

    def _pieces_of_text(self, path: Path, disk: Disk, _rows: int) -> Iterator[Columns]:
        size = min(max(disk.room() // PIECES_IN_ROOM, 1 << 20), LARGEST_PIECE)
        before, packed = self.done, self._state[path][0]
        with self._text(path, disk.folder) as opened:
            if opened is not None:
                plain, layout = opened
                share = packed / max(1, plain.stat().st_size)
                for piece, end in self._sound_pieces(path, plain, layout, size, disk.folder):
                    yield piece
                    self.done = before + int(end * share)
        self.done = before + packed

    def _sound_pieces(
        self, path: Path, plain: Path, layout: text.Layout, size: int, folder: Path
    ) -> Iterator[tuple[Columns, int]]:
        """The columns of each piece of a plain file and where it ends; bad rows that are not to be skipped are refused."""
        report, named = ReadReport(0, 0), self.source.named(path)
        for piece, end in _parsed(plain, named, layout, self._places, size, folder):
            report = total([report, piece.report])
            if self.how.skip_bad_rows or not report.rejected:
                yield piece, end
        if not self.how.skip_bad_rows:
            text.refuse_bad(report, named)

    @contextmanager
    def _text(self, path: Path, beside: Path | None = None) -> Iterator[tuple[Path, text.Layout] | None]:
        """A plain file and its layout; None for one of several that has nothing but empty lines."""
        how, first, named = self.how, self._first, self.source.named(path)
        with text.plain_file(path, named, how.encoding, beside) as plain:
            if len(self.source.files) > 1 and text.is_blank(plain):
                yield None
                return
            separator, header = (how.separator, how.header) if first is None else first[1][:2]
            layout = text.sniff(plain, named, separator, header, known_names(how.chosen))
            self._checked(path, layout.header, layout.width, layout.separator, layout.sample)
            yield plain, layout

    def _checked(
        self,
        path: Path,
        names: list[str] | None,
        width: int,
        kinds: Any,
        sample: list[list[str]] | None = None,
    ) -> dict[str, int]:
        """Which column is which, in the first file and so in all."""
        named = self.source.named(path)
        if self._first is None:
            self._places = places_of(self.how.chosen, names, width, named, self.how.implicit, sample)
            if self.implicit is None:
                self.implicit = counts_events(self._places, names)
            header = names is not None
            self._first = path, (kinds, header, names, width)
            return self._places
        first, (kinds_there, _, names_there, width_there) = self._first
        first_named = self.source.named(first)
        if names != names_there or width != width_there:
            raise DataError(
                f"{named} has {_listed(names, width)}, and {first_named} has {_listed(names_there, width_there)}: files "
                "must be of one layout to be read together"
            )
        for place in self._places.values():
            if self.source.parquet and kinds[place] != kinds_there[place]:
                raise DataError(
                    f"{named}: column {(names or [])[place]!r} is {kinds[place]}, and {kinds_there[place]} in "
                    f"{first_named}: files must be of one layout to be read together"
                )
        return self._places

    def _refuse_change(self, path: Path) -> None:
        if _state(path) != self._state[path]:
            raise DataError(f"{path} has changed while it was read: read it again when it is complete")


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    return found.st_size, found.st_mtime_ns


def _listed(names: list[str] | None, width: int) -> str:
    return ", ".join(map(repr, names)) if names is not None else f"{width} columns without names"


def _parsed(
    plain: Path, named: str, layout: text.Layout, places: dict[str, int], size: int, folder: Path
) -> Iterator[tuple[Columns, int]]:
    """The columns of each piece of a plain file, and where it ends; some pieces are parsed at once."""
    waiting: deque[tuple[Future[Columns], int]] = deque()
    here = layout
    with ThreadPoolExecutor(THREADS) as pool:
        for number, piece in enumerate(pieces_of_text(plain, named, layout.separator, size)):
            copy = folder / f"piece-{number}"
            waiting.append((pool.submit(_parse, piece, copy, named, here, places), piece.end))
            if not piece.text.isspace():
                here = layout._replace(header=None)
            if len(waiting) == THREADS:
                future, end = waiting.popleft()
                yield future.result(), end
        for future, end in waiting:
            yield future.result(), end


def _parse(piece: Piece, copy: Path, named: str, layout: text.Layout, places: dict[str, int]) -> Columns:
    try:
        copy.write_bytes(piece.text)
        return text.parsed(copy, named, layout, places, piece.before)
    except OSError as error:
        raise DataError(f"{copy.parent} cannot be written: {error.strerror or error}") from None
    finally:
        copy.unlink(missing_ok=True)
