"""Records of how ratings were made, as Python code that a report can print to make them again.

Examples
--------
>>> import hatrix as hx
>>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
>>> print("\\n".join(hx.split.per_user(ratings, seed=3).train.origin.lines()))
ratings = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)[0]
split = hx.split.per_user(ratings, test=0.2, seed=3)
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import numpy as np

__all__ = ["Origin", "code_of", "joined", "recorded", "remembered"]

P = ParamSpec("P")
R = TypeVar("R")

NO_DIFFERENCE = frozenset({"progress", "threads", "memory", "folder"})
"""Parameters that do not change the result."""
ALWAYS_SAID = frozenset({"test", "seed", "folds"})
"""Parameters that are always written down, even with their default value."""
LONGEST = 1000
"""Maximum characters of an argument in the code; a longer one counts as unknown."""


@dataclass(frozen=True)
class Origin:
    """The call that made ratings or a split, and the origin of its input.

    Attributes
    ----------
    call
        The call, with ``{0}`` in the place of its input.
    name
        The name of the variable that holds the result.
    part
        The part of the result that these ratings are, such as ``.train``.
    of
        The origin of the input; None if the input was made in memory, in an unknown way.
    rows
        For a part of a split, the number of training ratings of the split; else None.
    needs
        A comment on a name in the call that stands for something made in memory; empty if there is none.
    """

    call: str
    name: str = "ratings"
    part: str = ""
    of: Origin | None = None
    rows: int | None = None
    needs: str = ""

    @property
    def is_split(self) -> bool:
        """Tell whether this is a part of a split."""
        return self.rows is not None

    @property
    def expression(self) -> str:
        """Return the expression that stands for these ratings after `lines`."""
        return self.name + self.part

    @property
    def is_known(self) -> bool:
        """Tell whether the code is complete, so that it needs nothing that was made in memory."""
        return "{0}" not in self.call or (self.of is not None and self.of.is_known)

    @property
    def gaps(self) -> list[str]:
        """Return comments on the names in `lines` that stand for tables made in memory."""
        before = [] if self.of is None else self.of.gaps
        return before if self.needs in ("", *before) else [*before, self.needs]

    def lines(self) -> list[str]:
        """Return the lines of code after which `expression` stands for the ratings."""
        before = [] if self.of is None else self.of.lines()
        source = "ratings" if self.of is None else self.of.expression
        return [*before, f"{self.name} = {self.call.replace('{0}', source)}"]


def joined(of: Origin | None, side: str, table: Any, options: Mapping[str, Any]) -> Origin:
    """Return the origin of ratings with a table of items or users: a file by its path, or a table in memory by a name."""
    code, needs = code_of(table) if isinstance(table, str | os.PathLike) else None, ""
    if code is None:
        code, needs = f"{side}_table", f"{side}_table: the table of {side}s that you joined"
    said = [code, *(f"{name}={code_of(value)}" for name, value in options.items() if value is not None)]
    return Origin(f"{{0}}.with_{side}s({', '.join(said)})", of=of, needs=needs)


def code_of(value: Any) -> str | None:
    """Return a value as Python code, or None if it cannot be written in one line."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        inside = [code_of(one) for one in value]
        if None in inside:
            return None
        joined = ", ".join(text for text in inside if text is not None)
        return f"[{joined}]" if isinstance(value, list) else f"({joined}{',' * (len(value) == 1)})"
    if isinstance(value, Mapping):
        pairs = [(code_of(key), code_of(one)) for key, one in value.items()]
        if any(None in pair for pair in pairs):
            return None
        return "{" + ", ".join(f"{key}: {one}" for key, one in pairs) + "}"
    return None


def _arguments_of(
    signature: inspect.Signature, args: Any, kwargs: Any, *, skip: int = 0
) -> dict[str, str | None]:
    """Return the code of the arguments that are not the defaults, by parameter, after the first few.

    The names of parameters that have no default begin with a star. None stands for a value that
    cannot be written in one line.
    """
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    found = {}
    for name, value in list(bound.arguments.items())[skip:]:
        parameter = signature.parameters[name]
        is_default = parameter.default is not parameter.empty and code_of(value) == code_of(parameter.default)
        is_left_out = is_default and code_of(value) is not None and name not in ALWAYS_SAID
        if name in NO_DIFFERENCE or is_left_out:
            continue
        required = parameter.default is parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY
        code = code_of(value)
        found[f"*{name}" if required else name] = code if code is None or len(code) <= LONGEST else None
    return found


def recorded(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that makes or splits ratings, so that its results record the call."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def made(*args: P.args, **kwargs: P.kwargs) -> R:
            found: R = _marked(function(*args, **kwargs), name, signature, args, kwargs)
            return found

        return made

    return decorate


def remembered(*, skip: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that ``options`` of its result holds the code of its arguments after the first ``skip``."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def made(*args: P.args, **kwargs: P.kwargs) -> R:
            found: Any = function(*args, **kwargs)
            made: R = replace(found, options=_arguments_of(signature, args, kwargs, skip=skip))
            return made

        return made

    return decorate


def _marked(found: Any, name: str, signature: inspect.Signature, args: Any, kwargs: Any) -> Any:
    """Return the result with its origin; without one if an argument cannot be written as code."""
    from hatrix.data.ratings import Ratings
    from hatrix.data.split import Folds, Split

    first = next(iter(signature.bind(*args, **kwargs).arguments.values()))
    splits = isinstance(found, Split | Folds) and isinstance(first, Ratings)
    arguments = _arguments_of(signature, args, kwargs, skip=int(splits))
    if None in arguments.values():
        return found
    said = [value if key.startswith("*") else f"{key}={value}" for key, value in arguments.items()]
    call = f"{name}({', '.join([*['{0}'] * splits, *(text for text in said if text)])})"
    if isinstance(found, Ratings):
        return found.made_by(Origin(call))
    if isinstance(found, tuple):
        return (found[0].made_by(Origin(f"{call}[0]")), *found[1:])
    return found.made_by(call, first.origin if isinstance(first, Ratings) else None)
