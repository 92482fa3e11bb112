"""The ``hatrix`` command: what a user did wrong is one line and exit status 2, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from cyclopts import CycloptsError, UnknownOptionError

__all__ = ["main"]

DONE, BUG, MISTAKE, INTERRUPTED, BROKEN_PIPE, TERMINATED = 0, 1, 2, 130, 141, 143


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave the process with its exit status.

    Parameters
    ----------
    arguments
        What follows ``hatrix``; by default those of the process.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal cannot show must not end a run
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_status(tokens))


def _status(tokens: list[str]) -> int:
    debug = bool(os.environ.get("HATRIX_DEBUG")) or "--debug" in _before_end(tokens)
    terminated = threading.Event()
    try:
        with _sigterm_as_ctrl_c(terminated), _warnings_in_a_line():
            _dispatch(tokens)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
        return BROKEN_PIPE
    except KeyboardInterrupt as error:
        word, status = ("terminated", TERMINATED) if terminated.is_set() else ("interrupted", INTERRUPTED)
        return _fail(f"{word}: {error}" if str(error) else word, status)
    except Exception as error:
        if debug:
            raise
        return _fail(*_explain(error))
    return DONE


def _dispatch(tokens: list[str]) -> None:
    from hatrix.app.commands import command_line

    app = command_line(tokens)
    app(tokens, exit_on_error=False, print_error=False, result_action="return_value")


def _explain(error: Exception) -> tuple[str, int]:
    """What to say, and the exit status."""
    from cyclopts import CycloptsError

    from hatrix.errors import HatrixError

    if isinstance(error, CycloptsError):
        return _usage(error), MISTAKE
    if isinstance(error, HatrixError):
        return str(error), MISTAKE
    if isinstance(error, MemoryError):
        return "out of memory: give fewer ratings or factors, or use a machine with more", MISTAKE
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", MISTAKE
    return (
        f"unexpected {type(error).__name__}: {error} -- please report it with what "
        "`--debug` or HATRIX_DEBUG=1 shows in addition"
    ), BUG


def _usage(error: CycloptsError) -> str:
    from cyclopts import MissingArgumentError, UnknownOptionError, UnusedCliTokensError

    from hatrix.app.flags import algorithms_with

    chain = " ".join(["hatrix", *(error.command_chain or ())])
    argument = error.argument
    if isinstance(error, MissingArgumentError) and argument is not None:
        name = argument.name if argument.field_info.is_keyword else argument.name.lstrip("-").upper()
        given = error.keyword or next((token.keyword for token in argument.tokens if token.keyword), None)
        what = f"{given} needs a value" if given else f"{name} is missing"
        message = f"{what}: {argument.parameter.help}"
    elif isinstance(error, UnknownOptionError) and (owners := algorithms_with(_option(error))):
        message = f"{_option(error)} is a flag of {' and '.join(owners)} only"
    elif isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        message = f"there is no place for {error.unused_tokens[0]!r}"
    else:
        error.verbose = False
        message = str(error).rstrip(".")
        message = message[:1].lower() + message[1:]
    return f"{message} (see {chain} --help)"


def _option(error: UnknownOptionError) -> str:
    return (error.token.keyword or error.token.value).split("=")[0]


def _fail(message: str, status: int) -> int:
    """Print the one line of an error."""
    try:
        print(f"error: {_one_line(message)}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        _silence(sys.stderr)
    return status


def _one_line(text: str) -> str:
    """The text in one line, without what could steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _before_end(tokens: list[str]) -> list[str]:
    return tokens[: tokens.index("--")] if "--" in tokens else tokens


@contextmanager
def _sigterm_as_ctrl_c(terminated: threading.Event) -> Iterator[None]:
    """Treat SIGTERM as SIGINT would be treated at that moment, and remember it for the exit status."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, frame: FrameType | None) -> None:
        terminated.set()
        interrupt = signal.getsignal(signal.SIGINT)
        if not callable(interrupt):  # a job in the background may ignore Ctrl-C
            raise KeyboardInterrupt
        interrupt(signal.SIGINT, frame)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Show what our code warns of as a line of its own, and nothing of what libraries warn their callers of."""
    import warnings

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if category is UserWarning:
            print(f"warning: {_one_line(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter(
            "default", UserWarning
        )  # whatever PYTHONWARNINGS says: a warning never ends a command
        warnings.showwarning = show
        yield


def _silence(stream: Any) -> None:
    """Let the stream end in nothing, so that flushing it at exit does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
