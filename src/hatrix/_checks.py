"""Checks of arguments that functions of several packages take, with their messages.

Each check raises a `ParameterError` that names the parameter; most return the argument in its plain type. None of them
asks an array, a table or another foreign object whether it is true, or equal to something: the answer may be an array,
or an error.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from hatrix.errors import ParameterError

__all__ = ["column", "is_number", "one_of", "path_of", "shown", "text", "whole", "yes_or_no"]

LONGEST = 80
"""Maximum characters of a refused value in a message."""


def shown(given: Any) -> str:
    """Return a value for a message: one line, shortened.

    Examples
    --------
    >>> shown([1.5, "a"])
    "[1.5, 'a']"
    """
    try:
        text = " ".join(repr(given).split())
    except Exception:  # such as that of an int with more digits than Python writes
        return f"a value of the type {type(given).__name__}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def is_number(given: Any) -> bool:
    """Tell whether a value is a real number of Python or NumPy; True and False are none.

    Examples
    --------
    >>> is_number(0.5), is_number(True)
    (True, False)
    """
    return isinstance(given, Real) and not isinstance(given, bool)


def one_of(name: str, given: Any, words: Sequence[str], *, otherwise: str = "") -> None:
    """Refuse what is none of the words that are allowed; ``otherwise`` is one more choice, for the message.

    Raises
    ------
    ParameterError
        If it is no text, or none of the words.

    Examples
    --------
    >>> one_of("metric", "sine", ["cosine", "dot"])
    Traceback (most recent call last):
    ...
    hatrix.errors.ParameterError: metric is 'sine': give 'cosine' or 'dot'
    """
    if isinstance(given, str) and given in words:
        return
    allowed = [*map(repr, words), *([otherwise] if otherwise else [])]
    raise ParameterError(f"{name} is {shown(given)}: give {', '.join(allowed[:-1])} or {allowed[-1]}")


def text(name: str, given: Any) -> str:
    """Return a text.

    Raises
    ------
    ParameterError
        If it is something else.

    Examples
    --------
    >>> text("separator", ";")
    ';'
    """
    if isinstance(given, str):
        return str(given)
    raise ParameterError(f"{name} is {shown(given)}: give a text")


def column(name: str, given: Any) -> str | int:
    """Return the name of a column, or its position from 0.

    Raises
    ------
    ParameterError
        If it is neither; True and False are no positions.

    Examples
    --------
    >>> column("rating", "stars")
    'stars'
    """
    if isinstance(given, str):
        return str(given)
    if isinstance(given, Integral) and not isinstance(given, bool) and abs(int(given)) < 2**31:
        return int(given)
    raise ParameterError(f"{name} is {shown(given)}: give the name of a column, or its position from 0")


def yes_or_no(name: str, given: Any) -> bool:
    """Return a truth value, of Python or NumPy.

    Raises
    ------
    ParameterError
        If it is something else: a text such as ``"no"`` would count as true.

    Examples
    --------
    >>> yes_or_no("clip", True)
    True
    """
    import numpy as np  # here, since `hatrix --help` does without it

    if isinstance(given, bool | np.bool_):
        return bool(given)
    raise ParameterError(f"{name} is {shown(given)}: give True or False")


def whole(name: str, given: Any, least: int = 1, most: int | None = None, *, of: str = "") -> int:
    """Return a whole number within bounds, of Python or NumPy; True and False are none.

    Parameters
    ----------
    name
        The name of the parameter, for the message.
    given
        The argument.
    least, most
        The bounds; None for no upper one.
    of
        The meaning of the upper bound, for the message, such as ``"the number of ratings"``.

    Raises
    ------
    ParameterError
        If it is no whole number, or out of bounds.

    Examples
    --------
    >>> whole("folds", 5, 2)
    5
    """
    if isinstance(given, Integral) and not isinstance(given, bool):
        number = int(given)
        if least <= number and (most is None or number <= most):
            return number
    bounds = f"from {least:,} up" if most is None else f"from {least:,} to {most:,}{f' ({of})' if of else ''}"
    raise ParameterError(f"{name} is {shown(given)}: give a whole number {bounds}")


def path_of(name: str, given: Any, *, text: bool = False) -> Path:
    """Return a path that the operating system can be asked for.

    Parameters
    ----------
    name
        The name of the parameter, for the message.
    given
        The argument.
    text
        Whether the path must be UTF-8 text, as DuckDB and Java want it. File names may be other bytes.

    Raises
    ------
    ParameterError
        If it is no path, is empty, or holds a character that no file name can hold.

    Examples
    --------
    >>> path_of("path", "model.hatrix").name
    'model.hatrix'
    """
    try:
        place = os.fsdecode(os.fspath(given))
        encoded = os.fsencode(place)
    except TypeError:
        raise ParameterError(f"{name} is {shown(given)}: give a path, as text or a pathlib.Path") from None
    except UnicodeError:
        raise ParameterError(
            f"{name} is {shown(given)}, which has half a character (a lone surrogate): no file can have this name, so give "
            "another"
        ) from None
    if not place or b"\0" in encoded:
        what = "an empty text" if not place else f"{shown(given)}, which has a null character"
        raise ParameterError(f"{name} is {what}: give the name of a file")
    whole_path = os.path.realpath(place) if text else ""
    if any("\ud800" <= character <= "\udfff" for character in whole_path):
        raise ParameterError(
            f"{name} is {shown(place)} in {shown(os.path.dirname(whole_path))}, which is not UTF-8 text: give another "
            "path, since DuckDB and Java take only text"
        )
    return Path(place)
