"""The model being served: its version, and how a new one takes its place while requests are answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hatrix.app.fragments import Fragments
from hatrix.app.snapshots import Snapshots
from hatrix.errors import HatrixError, ModelFileError, StoreError

if TYPE_CHECKING:
    from hatrix.app.snapshots import Stamp
    from hatrix.models.model import FactorModel

__all__ = ["Live", "Served"]

EVERY = 1.0
"""Seconds between looks at the file."""

log = logging.getLogger("hatrix.serve")


class Served:
    """A model with its version, and what is worked out once for it. A request uses one of these and nothing else."""

    def __init__(self, model: FactorModel, version: str, path: Path | None = None) -> None:
        self.model, self.version, self.path = model, version, path
        self.loaded = datetime.now(UTC)

    @cached_property
    def fragments(self) -> Fragments:
        """The beginning of each item in a reply, as bytes."""
        return Fragments(self.model)


class Live:
    """What is served now; `current` is replaced whole, so who takes it once never mixes two versions.

    Attributes
    ----------
    current
        The model that answers.
    path
        The file it comes from, or None.
    fault
        Why what is in the file now is not what is served, or None.
    gone
        Whether there is no file any more.
    reloads, refusals
        How often a new model took its place, and how often one was refused.
    prepare
        What is done with a new model, in a thread, before it takes the place of the old one.
    """

    def __init__(self, served: Served, path: Path | None = None, snapshots: Snapshots | None = None) -> None:
        self.current, self.path, self.snapshots = served, path, snapshots
        self.fault: str | None = None
        self.gone = False
        self.reloads = self.refusals = 0
        self.prepare: Callable[[Served], None] = _nothing
        self._tried: Stamp | None = None
        self._one: asyncio.Lock | None = None

    @classmethod
    def of(cls, model: FactorModel) -> Live:
        """A model that is already in memory, and is never replaced."""
        return cls(Served(model, model.fingerprint[:12] or "in-memory"))

    @classmethod
    def open(cls, path: Path, *, folder: Path | None = None) -> Live:
        """The model of a file, which is copied first.

        Parameters
        ----------
        path
            A model file.
        folder
            Where copies are kept; by default beside the file, or in a temporary folder where that cannot be written.
            Several processes that are given the same one share the copy and check it once.

        Raises
        ------
        ModelFileError
            If the file is no sound model, or cannot be copied.
        """
        snapshots, fault = Snapshots(path, folder), None
        try:
            taken = snapshots.take()
        except ModelFileError as error:
            # A process that joins a running service serves what that serves.
            last = snapshots.last() if folder is not None else None
            if last is None:
                if folder is None:
                    snapshots.close()
                raise
            taken, fault = last, str(error)
        live = cls(Served(taken.model, taken.digest[:12], taken.path), path, snapshots)
        live._tried, live.fault = taken.stamp, fault
        return live

    async def reload(self) -> bool:
        """Take the file again, if it has changed; whether it has.

        Raises
        ------
        ModelFileError
            If what is there now is refused; what was served before goes on being served.
        """
        if self.snapshots is None:
            return False
        if self._one is None:
            self._one = asyncio.Lock()
        async with self._one:
            try:
                return await asyncio.to_thread(self._replace)
            except HatrixError as error:
                self._refuse(error)
                raise

    async def watch(self) -> None:
        """Reload whenever the file changes, until cancelled."""
        while self.snapshots is not None:
            await asyncio.sleep(EVERY)
            stamp = self.snapshots.stamp()
            if stamp is None and not self.gone:
                log.warning("%s is gone: version %s goes on being served", self.path, self.current.version)
            self.gone = stamp is None
            if stamp is not None and stamp != self._tried:
                try:
                    await self.reload()
                except HatrixError:
                    pass  # logged
                except Exception:  # or no new model would ever be seen again
                    log.exception("%s could not be taken", self.path)

    def close(self) -> None:
        """Remove the copies; what other processes have mapped stays readable to them."""
        if self.snapshots is not None:
            self.snapshots.close()

    def _replace(self) -> bool:
        """In a thread: requests go on being answered."""
        snapshots, old = self.snapshots, self.current
        assert snapshots is not None
        stamp, self._tried = snapshots.stamp(), None
        try:
            taken = snapshots.take()
        except HatrixError:
            self._tried = stamp if snapshots.is_certain(stamp) else None
            raise
        self._tried = taken.stamp
        if taken.digest[:12] == old.version:
            self.fault = None
            return False
        for name in ("users", "items"):
            before, now = (getattr(model, name).kind for model in (old.model, taken.model))
            if before != now:
                raise ModelFileError(
                    f"{self.path} has ids of {name} of another type ({now} instead of {before}): start the service anew"
                )
        new = Served(taken.model, taken.digest[:12], taken.path)
        try:
            self.prepare(new)
        except StoreError:  # no fault of the file: it is tried again
            self._tried = None
            raise
        self.current, self.fault = new, None
        self.reloads += 1
        log.info("now serving version %s", new.version)
        return True

    def _refuse(self, error: HatrixError) -> None:
        why = str(error)
        if isinstance(error, StoreError) and why == self.fault:  # tried each second, told of once
            return
        self.fault = why
        self.refusals += 1
        log.warning("refused: %s (version %s goes on being served)", why, self.current.version)


def _nothing(_: Served) -> None:
    pass
