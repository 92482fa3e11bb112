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
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["rows_where"]

LONGEST = 10_000
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

    Raises
    ------
    ParameterError
        If the condition cannot be read, names no column, or compares a column with a value of another kind.

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
    if table is None or not len(table.columns):
        raise ParameterError(f"where={condition!r}: the model has no table of items to choose by")
    try:
        if len(condition) > LONGEST:
            raise ParameterError(
                f"where is longer than {LONGEST:,} characters: choose items with among instead"
            )
        tree = ast.parse(condition.strip(), mode="eval")
        met = _Condition(table, condition).truth(tree.body)
    except SyntaxError as error:
        raise ParameterError(f"where={condition!r} cannot be read ({error.msg}): {ALLOWED}") from None
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        if isinstance(error, ParameterError):
            raise
        raise ParameterError(f"where cannot be read, it is too deep or not text: {ALLOWED}") from None
    return np.asarray(met.to_numpy(dtype=bool, na_value=False))


class _Condition:
    """Walks an expression; truths are nullable booleans, whose logic has a third value."""

    def __init__(self, table: pd.DataFrame, text: str) -> None:
        self.table, self.text = table, text

    def truth(self, node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(op=op, values=[first, *others]):
                truth = self.truth(first)
                for other in others:
                    truth = (
                        truth & self.truth(other) if isinstance(op, ast.And) else truth | self.truth(other)
                    )
                return truth
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.truth(operand)
            case ast.Compare(left=left, ops=ops, comparators=others):
                pairs = zip([left, *others], ops, others, strict=False)
                return reduce(operator.and_, (self.compare(*pair) for pair in pairs))
            case ast.Name():
                name, column = self.column(node)
                if column.dtype.kind != "b":
                    raise self.fault(f"{name} is no condition by itself: compare it with a value")
                return column.array.astype("boolean")
        raise self.fault(f"{ast.unparse(node)!r} is no condition: {ALLOWED}")

    def compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(left, ast.Name) and isinstance(right, ast.Name):  # "Drama" in genres
                truth = self.met(right, ast.Eq(), self.value(left))
            elif isinstance(right, ast.List | ast.Tuple | ast.Set) and right.elts:
                values = map(self.value, right.elts)
                truth = reduce(operator.or_, (self.met(left, ast.Eq(), value) for value in values))
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
        return self.met(left, op, self.value(right))

    def met(self, node: ast.expr, op: ast.cmpop, value: Any) -> Any:
        """Whether each row's value in a column stands in a relation to the given one."""
        import pandas as pd

        name, column = self.column(node)
        sign, relation = _SIGNS[type(op)]
        missing = column.isna().to_numpy(bool)
        if column.dtype.kind in "Mm":
            truth = relation(column, self.moment(name, column, value)).to_numpy(bool)
        elif pd.api.types.is_numeric_dtype(column.dtype):
            if isinstance(value, str):
                raise self.fault(
                    f"the values of {name} are numbers, and {value!r} is text: leave out the quotes"
                )
            numbers = column.to_numpy(float, na_value=np.nan)
            truth = np.asarray(relation(numbers, float(value)))
        else:
            texts = column.astype(object).where(~missing, "").astype(str).tolist()
            truth = self.text_met(name, texts, sign, relation, value)
        return pd.arrays.BooleanArray(truth, missing)

    def text_met(
        self, name: str, texts: list[str], sign: str, relation: Callable[[Any, Any], Any], value: Any
    ) -> NDArray[np.bool_]:
        if not isinstance(value, str):
            raise self.fault(f"the values of {name} are text, and {value!r} is a number: put it in quotes")
        if not any("|" in text for text in texts):
            return np.fromiter((relation(text, value) for text in texts), bool, len(texts))
        if sign not in ("==", "!="):
            raise self.fault(
                f"{name} has several values a line, which {sign} does not compare: use ==, != or in"
            )
        has = np.fromiter((value in text.split("|") for text in texts), bool, len(texts))
        return has if sign == "==" else ~has

    def moment(self, name: str, column: pd.Series[Any], value: Any) -> Any:
        import pandas as pd

        try:
            if isinstance(value, str):
                return pd.Timestamp(value) if column.dtype.kind == "M" else pd.Timedelta(value)
        except ValueError:
            pass
        raise self.fault(f'the values of {name} are times, and {value!r} is none: write it as "1999-12-31"')

    def column(self, node: ast.expr) -> tuple[str, pd.Series[Any]]:
        if not isinstance(node, ast.Name):
            raise self.fault(f"{ast.unparse(node)!r} is not the name of a column: {ALLOWED}")
        names = {str(label): place for place, label in enumerate(self.table.columns)}
        spelt = {re.sub(r"\W", "_", name): place for name, place in names.items()}
        for wanted in (node.id, f"{node.id}s"):
            place = names.get(wanted, spelt.get(wanted))
            if place is not None:
                return str(self.table.columns[place]), self.table.iloc[:, place]
        near = difflib.get_close_matches(node.id, names, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise self.fault(f"items have no column {node.id!r}{hint}: they have {', '.join(names)}")

    def value(self, node: ast.expr) -> str | float | bool:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
        raise self.fault(f"{ast.unparse(node)!r} is neither a number nor text in quotes: {ALLOWED}")

    def fault(self, what: str) -> ParameterError:
        return ParameterError(f"where={self.text!r}: {what}")
