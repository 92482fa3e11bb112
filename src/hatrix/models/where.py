"""Conditions on the columns of an item table, such as ``year >= 1990 and genre == "Drama"``.

A condition is read as a Python expression and then walked: comparisons of a column with values, ``in`` with a list of
values, ``and``, ``or``, ``not``, and a column of truth values on its own. Nothing else is allowed, and nothing is run.
A missing value makes a comparison unknown, as in SQL: neither it nor its ``not`` selects the item.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["rows_where"]

LONGEST = 10_000
"""Maximum characters of a condition."""
MOST_COMPARISONS = 200
"""Maximum comparisons in a condition; an ``in`` is one comparison, however many values it lists."""
DEEPEST = 50
"""Maximum depth of parentheses, ``not``, ``and`` and ``or`` inside each other."""
SHOWN = 200
"""Maximum characters of a condition in an error message."""
_SIGNS: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
}
_TURNED = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
ALLOWED = "compare a column with a value by ==, !=, <, <=, >, >= or in [..], and join such comparisons by and, or, not"


def rows_where(table: pd.DataFrame | None, condition: str) -> NDArray[np.bool_]:
    """Which rows of a table meet a condition.

    Parameters
    ----------
    table
        The columns; None where the model has no table.
    condition
        For example ``1990 <= year < 2000 and genre in ["Drama", "Comedy"]``. In a column of several values joined
        by ``|``, ``==`` means that one of them is the given one. A column can be named in the singular (``genre`` for
        ``genres``), and by ``_`` for what no Python name can hold (``release_date`` for ``release date``).
        A condition has at most 10,000 characters and 200 comparisons, nested at most 50 deep.

    Raises
    ------
    ParameterError
        If the condition cannot be read, is larger than that, names no column, or compares a column with a value of
        another kind.

    Examples
    --------
    >>> import pandas as pd
    >>> films = pd.DataFrame({"year": [1972, None, 1999], "genres": ["Crime|Drama", "Drama", "Comedy"]})
    >>> rows_where(films, 'genre == "Drama" and year < 1990').tolist()
    [True, False, False]
    >>> rows_where(films, 'not year < 1990').tolist()
    [False, False, True]
    """
    if not isinstance(condition, str):
        raise ParameterError(f"where is {condition!r}: give a text such as 'year >= 1990'")
    shown = condition if len(condition) <= SHOWN else f"{condition[:SHOWN]}…"
    if table is None or not len(table.columns):
        raise ParameterError(f"where={shown!r}: the model has no table of items to choose by")
    try:
        if len(condition) > LONGEST:
            raise ParameterError(
                f"where has {len(condition):,} characters, and at most {LONGEST:,} are read: choose items with among instead"
            )
        tree = ast.parse(condition.strip(), mode="eval")
        met = _Condition(table, shown).truth(tree.body)
    except SyntaxError as error:
        raise ParameterError(f"where={shown!r} cannot be read ({error.msg}): {ALLOWED}") from None
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        if isinstance(error, ParameterError):
            raise
        raise ParameterError(f"where cannot be read, it is too deep or not text: {ALLOWED}") from None
    return np.asarray(met.to_numpy(dtype=bool, na_value=False))


class _Condition:
    """Walks an expression; truths are nullable booleans, whose logic has a third value."""

    def __init__(self, table: pd.DataFrame, text: str) -> None:
        self.table, self.text, self.comparisons = table, text, 0

    def truth(self, node: ast.expr, depth: int = 0) -> Any:
        if depth > DEEPEST:
            raise self.fault(
                f"it is nested too deep, more than {DEEPEST} times: use `in [..]`, or among instead"
            )
        match node:
            case ast.BoolOp(op=op, values=values):
                both = operator.and_ if isinstance(op, ast.And) else operator.or_
                return reduce(both, (self.truth(value, depth + 1) for value in values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.truth(operand, depth + 1)
            case ast.Compare(left=left, ops=ops, comparators=others):
                pairs = zip([left, *others], ops, others, strict=False)
                return reduce(operator.and_, (self.compare(*pair) for pair in pairs))
            case ast.Name():
                name, column = self.column(node)
                if column.values.dtype.kind != "b":
                    raise self.fault(f"{name} is no condition by itself: compare it with a value")
                return column.values.array.astype("boolean")
        raise self.fault(f"{ast.unparse(node)!r} is no condition: {ALLOWED}")

    def compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(left, ast.Name) and isinstance(right, ast.Name):  # "Drama" in genres
                truth = self.met(right, ast.Eq(), [self.value(left)])
            elif isinstance(right, ast.List | ast.Tuple | ast.Set) and right.elts:
                truth = self.met(left, ast.Eq(), [self.value(element) for element in right.elts])
            else:
                raise self.fault(
                    f"{ast.unparse(right)!r} after in: give a list of values, such as [1994, 1995]"
                )
            return ~truth if isinstance(op, ast.NotIn) else truth
        if type(op) not in _SIGNS:
            raise self.fault(f"'is' does not compare with values: {ALLOWED}")
        if isinstance(left, ast.Name) and isinstance(right, ast.Name):
            raise self.fault(
                f'{left.id} and {right.id} are two names: put text in quotes, as {left.id} == "{right.id}"'
            )
        if isinstance(right, ast.Name):
            left, right, op = right, left, _TURNED.get(type(op), type(op))()
        return self.met(left, op, [self.value(right)])

    def met(self, node: ast.expr, op: ast.cmpop, values: list[Any]) -> Any:
        """Return for each row whether its value stands in this relation to one of the values."""
        import pandas as pd

        name, column = self.column(node)
        sign, relation = _SIGNS[type(op)]
        kind = column.values.dtype
        if kind.kind in "Mm":
            moments = [self.moment(name, column.values, value) for value in values]
            truth = column.values.isin(moments) if sign == "==" else relation(column.values, moments[0])
        elif column.numbers is not None:
            for value in values:
                if isinstance(value, str):
                    raise self.fault(
                        f"the values of {name} are numbers, and {value!r} is text: leave out the quotes"
                    )
            given = [float(value) for value in values]
            truth = np.isin(column.numbers, given) if sign == "==" else relation(column.numbers, given[0])
        else:
            for value in values:
                if not isinstance(value, str):
                    raise self.fault(
                        f"the values of {name} are text, and {value!r} is a number: put it in quotes"
                    )
            if column.texts.several and sign not in ("==", "!="):
                raise self.fault(
                    f"{name} has several values a line, which {sign} does not compare: use ==, != or in"
                )
            truth = column.texts.met(sign, values)
        return pd.arrays.BooleanArray(np.array(truth, bool), column.missing.copy())

    def moment(self, name: str, column: pd.Series[Any], value: Any) -> Any:
        import pandas as pd

        try:
            if isinstance(value, str):
                return pd.Timestamp(value) if column.dtype.kind == "M" else pd.Timedelta(value)
        except ValueError:
            pass
        raise self.fault(f'the values of {name} are times, and {value!r} is none: write it as "1999-12-31"')

    @cached_property
    def names(self) -> dict[str, int]:
        """Return the place of each column by its label."""
        return {str(label): place for place, label in enumerate(self.table.columns)}

    @cached_property
    def spelt(self) -> dict[str, int]:
        """Return the place of each column by the Python name that stands for its label."""
        return {re.sub(r"\W", "_", name): place for name, place in self.names.items()}

    def column(self, node: ast.expr) -> tuple[str, _Column]:
        self.comparisons += 1
        if self.comparisons > MOST_COMPARISONS:
            raise self.fault(
                f"it compares more than {MOST_COMPARISONS} times: list values with `in [..]`, or use among instead"
            )
        if not isinstance(node, ast.Name):
            raise self.fault(f"{ast.unparse(node)!r} is not the name of a column: {ALLOWED}")
        for wanted in (node.id, f"{node.id}s"):
            place = self.names.get(wanted, self.spelt.get(wanted))
            if place is not None:
                return str(self.table.columns[place]), _prepared(self.table, place)
        near = difflib.get_close_matches(node.id, self.names, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise self.fault(f"items have no column {node.id!r}{hint}: they have {', '.join(self.names)}")

    def value(self, node: ast.expr) -> str | float | bool:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
        raise self.fault(f"{ast.unparse(node)!r} is neither a number nor text in quotes: {ALLOWED}")

    def fault(self, what: str) -> ParameterError:
        return ParameterError(f"where={self.text!r}: {what}")


class _Column:
    """A column of a table, made ready for comparisons."""

    def __init__(self, values: pd.Series[Any]) -> None:
        from pandas.api.types import is_numeric_dtype

        self.values = values.copy()
        self.missing: NDArray[np.bool_] = values.isna().to_numpy(bool)
        self.numbers: NDArray[np.float64] | None = None
        if is_numeric_dtype(values.dtype):
            self.numbers = values.to_numpy(float, na_value=np.nan)

    @cached_property
    def texts(self) -> _Texts:
        return _Texts(self.values, self.missing)


class _Texts:
    """A column of texts: the sorted distinct texts, and for each row the place of its text among them.

    ``several`` tells whether some texts are several values, joined by ``|``; ``holders`` are then the places of the texts
    that hold a value.
    """

    def __init__(self, values: pd.Series[Any], missing: NDArray[np.bool_]) -> None:
        import pandas as pd

        texts = values.astype(object).where(~missing, "").astype(str).astype(object)
        place, distinct = pd.factorize(texts.to_numpy(), sort=True)
        self.place, self.distinct = place, distinct.tolist()
        self.several = any("|" in text for text in self.distinct)
        self.holders: dict[str, list[int]] = {}
        for at, text in enumerate(self.distinct if self.several else ()):
            for value in text.split("|"):
                self.holders.setdefault(value, []).append(at)

    def met(self, sign: str, values: list[str]) -> NDArray[np.bool_]:
        """Return for each row whether its text stands in this relation to one of the values."""
        found = np.zeros(len(self.distinct), bool)
        match sign:
            case "==" | "!=":
                for value in values:
                    if self.several:
                        found[self.holders.get(value, [])] = True
                    else:
                        found[bisect_left(self.distinct, value) : bisect_right(self.distinct, value)] = True
                if sign == "!=":
                    found = ~found
            case "<" | "<=":
                found[: (bisect_left if sign == "<" else bisect_right)(self.distinct, values[0])] = True
            case _:
                found[(bisect_right if sign == ">" else bisect_left)(self.distinct, values[0]) :] = True
        return np.asarray(found[self.place])


_TABLES: dict[int, tuple[weakref.ref[pd.DataFrame], dict[int, _Column]]] = {}
"""Prepared columns by table; they are dropped when the table is."""


def _prepared(table: pd.DataFrame, place: int) -> _Column:
    """Return a prepared column; it is kept for later conditions, unless somebody changes the column of the table."""
    key = id(table)
    known = _TABLES.get(key)
    if known is None or known[0]() is not table:
        known = weakref.ref(table, lambda _: _TABLES.pop(key, None)), {}
        _TABLES[key] = known
    values, column = table.iloc[:, place], known[1].get(place)
    if column is None or not column.values.equals(values):
        column = known[1][place] = _Column(values)
    return column
