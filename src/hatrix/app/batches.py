"""Lists of many users at once: requests that arrive while one batch is computed are the next batch.

A kernel that ranks all items for eight users takes little longer than for one. A request never waits for others to come:
when nothing is being computed, it is a batch of its own. Batches are computed one after the other by a thread (kernels do
without the interpreter's lock), each from one model, and come back as the bytes of replies.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_plus

import numpy as np

from hatrix.app.fragments import encoded
from hatrix.errors import HatrixError
from hatrix.models.recommend import TopN

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from starlette.types import ASGIApp, Receive, Scope, Send

    from hatrix.app.fragments import Fragments
    from hatrix.app.live import Live, Served
    from hatrix.data.ids import Ids
    from hatrix.models.model import FactorModel

__all__ = ["Asked", "Batches", "Quick", "warm"]

MOST = 32
"""Requests of a batch: more are no quicker each, keep the first waiting, and come back all at once."""
PATH = "/v1/recommendations"
QUERY = re.compile(rb"(?:n=(?P<n>[1-9]\d?)&)?user=(?P<user>[^&=;#]{1,200})(?:&n=(?P<m>[1-9]\d?))?")
NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})")
N = 10


class Asked(NamedTuple):
    """A request for the n best items of a user, by the user's label."""

    user: int | str
    n: int


class _Queue:
    """What waits for the thread, on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.busy = loop, False
        self.waiting: list[tuple[Asked, asyncio.Future[bytes | None]]] = []


class Batches:
    """Answers plain requests for lists in batches.

    Parameters
    ----------
    live
        The model.
    feedback
        Given a `Served`, what users have said since that model was trained (see `hatrix.app.feedback`), or None. A user
        who has said something, or was deleted, gets no reply from here, but a `None`.
    observe
        Told the size of each batch.
    """

    def __init__(
        self,
        live: Live,
        *,
        feedback: Callable[[Served], Any] | None = None,
        observe: Callable[[int], None] | None = None,
    ) -> None:
        self.live, self.feedback, self.observe = live, feedback, observe
        self._pool: ThreadPoolExecutor | None = None
        self._queue: _Queue | None = None

    def ask(self, asked: Asked) -> asyncio.Future[bytes | None]:
        """The reply to come."""
        loop = asyncio.get_running_loop()
        queue = self._queue
        if queue is None or queue.loop is not loop:
            queue = self._queue = _Queue(loop)
        future: asyncio.Future[bytes | None] = loop.create_future()
        queue.waiting.append((asked, future))
        if not queue.busy:
            queue.busy = True
            loop.call_soon(self._start, queue)  # with what else has arrived by now
        return future

    def answer(self, asked: Sequence[Asked]) -> list[bytes | None]:
        """Answer several requests from the model that is current now.

        A request that was planned on another model may not be a plain one for this model. It gets None, as do requests of
        users with feedback: the application answers those, from one model of its own.
        """
        served = self.live.current
        replies: list[bytes | None] = [None] * len(asked)
        by_length: dict[int, list[int]] = {}
        for at in self._without_feedback(served, asked):
            if not is_plain(served, asked[at].user):
                continue
            by_length.setdefault(asked[at].n, []).append(at)
        for n, places in by_length.items():
            users = [asked[at].user for at in places]
            for at, reply in zip(places, _replies(served, users, n), strict=True):
                replies[at] = reply
        return replies

    def _without_feedback(self, served: Served, asked: Sequence[Asked]) -> Sequence[int]:
        """The places of users of whom nothing is known but what the model was trained on."""
        feedback = None if self.feedback is None else self.feedback(served)
        if feedback is None:
            return range(len(asked))
        try:
            feedback.refresh()
            # The order matters: a user who is deleted in between then counts as deleted.
            return [
                at for at, (user, _) in enumerate(asked) if not (feedback.of(user) or feedback.deleted(user))
            ]
        except HatrixError:  # the store does not answer: the application has words for that
            return []

    def close(self) -> None:
        """End the thread once it has answered what it has begun."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)

    def _start(self, queue: _Queue) -> None:
        batch, queue.waiting = queue.waiting[:MOST], queue.waiting[MOST:]
        if self.observe is not None:
            self.observe(len(batch))
        if self._pool is None:  # the first, or an application that was ended and begins again
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="hatrix-batches")
        self._pool.submit(self._work, queue, batch)

    def _work(self, queue: _Queue, batch: list[tuple[Asked, asyncio.Future[bytes | None]]]) -> None:
        found: list[bytes | None] | Exception
        try:
            found = self.answer([asked for asked, _ in batch])
        except Exception as error:
            found = error
        queue.loop.call_soon_threadsafe(self._deliver, queue, batch, found)

    def _deliver(
        self,
        queue: _Queue,
        batch: list[tuple[Asked, asyncio.Future[bytes | None]]],
        found: list[bytes | None] | Exception,
    ) -> None:
        if queue.waiting:
            self._start(queue)
        else:
            queue.busy = False
        for at, (_, future) in enumerate(batch):
            if future.done():  # the client has gone
                continue
            if isinstance(found, Exception):
                future.set_exception(found)
            else:
                future.set_result(found[at])


class Quick:
    """Answers plain requests for lists before they come to the application's routing; all others go on to it.

    What such a request may hold is what the route in the application documents; here only those that are certain to be
    valid are taken.
    """

    def __init__(self, app: ASGIApp, batches: Batches) -> None:
        self.app, self.batches = app, batches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = None
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "GET":
            asked = plainly_asked(self.batches.live.current, scope["query_string"])
        if asked is None:
            await self.app(scope, receive, send)
            return
        body = await self.batches.ask(asked)
        if body is None:
            await self.app(scope, receive, send)
            return
        scope["hatrix.route"] = PATH
        length = b"%d" % len(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def plainly_asked(served: Served, query: bytes) -> Asked | None:
    """What a query string asks for, where it is a user and a number, and certain to be valid."""
    found = QUERY.fullmatch(query)
    if found is None or served.model.seen is None or (found["n"] and found["m"]):
        return None
    user = unquote_plus(found["user"].decode("ascii", "replace"))
    n = int(found["n"] or found["m"] or N)
    if served.model.users.kind == "str":
        return Asked(user, n)
    return Asked(int(user), n) if NUMBER.fullmatch(user) and user.isascii() else None


def is_plain(served: Served, user: int | str) -> bool:
    """Return whether the model alone knows the user's seen items, and the id is of the model's kind."""
    return served.model.seen is not None and isinstance(user, str) == (served.model.users.kind == "str")


def warm(served: Served) -> None:
    """Work out what the first request would wait for."""
    _ = served.fragments
    if served.model.seen is not None and len(served.model.users):
        _replies(served, served.model.users.labels[:1].tolist(), N)


def rows_of(ids: Ids, labels: list[int | str]) -> NDArray[np.int64]:
    """As `Ids.encode`, for a few labels of the type of the ids: without an index, which every new model would build."""
    known = ids.labels
    if ids.kind == "int":
        wanted: NDArray[Any] = np.array(labels, np.int64)
        at = np.searchsorted(known, wanted)
    else:
        wanted = np.array(labels, object)
        at = np.array([bisect_left(known, label) for label in labels], np.int64)
    at[at == len(known)] = -1
    return np.where(known[at] == wanted, at, -1) if len(known) else np.full(len(labels), -1)


def _replies(served: Served, users: list[int | str], n: int) -> list[bytes]:
    """The replies to users by label."""
    model, fragments = served.model, served.fragments
    seen = None if model.seen is None else (model.seen.start, model.seen.item)
    rows = rows_of(model.users, users)
    recommender = TopN(model, n, None, seen)
    items, scores, lengths, basis = recommender.lists(rows)
    shown = _with_numbers(model, rows, items, scores, fragments)
    version = encoded(served.version)
    return [
        b'{"model":%b,"user":%b,"basis":"%b","items":[%b],"short":%b,"warnings":[]}'
        % (
            version,
            encoded(user),
            by.encode(),
            b",".join(some[:length]),
            b"null" if length == n else encoded(recommender.shortage(length)),
        )
        for user, by, some, length in zip(users, basis, shown, lengths.tolist(), strict=True)
    ]


def _with_numbers(
    model: FactorModel,
    rows: NDArray[np.int64],
    items: NDArray[np.int32],
    scores: NDArray[np.float64],
    fragments: Fragments,
) -> list[list[bytes]]:
    """Return each item of each list with its score and, of models that predict ratings, its predicted rating."""
    numbers = [scores]
    form = b"%b%a}"
    if model.rating_model is not None:
        user = np.repeat(rows, items.shape[1])
        numbers.append(model.predict_rows(user, items.ravel(), clip=True).reshape(items.shape))
        form = b'%b%a,"rating":%a}'
    return [
        [form % (fragments[item], *some) for item, *some in zip(*one, strict=True)]
        for one in zip(items.tolist(), *(array.tolist() for array in numbers), strict=True)
    ]
