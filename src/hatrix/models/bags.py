"""What a posterior keeps of its bags, so that rows it was not trained on can be sums of the same fields.

A row is ``x = own + Σ_f |bag_f|^-½ Σ_{j in bag_f} y_fj`` (see `hatrix.models.bayesian.BayesianMF`). The rows y of each draw
are kept; who holds which follows from ratings and tables. So the centre of a new row is known, and only its own part is
left to draw (`hatrix.models.conditional`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.errors import DataError, ModelFileError
from hatrix.models.container import take
from hatrix.models.factors import ITEM, USER
from hatrix.models.fields import Column
from hatrix.models.recommend import some_of
from hatrix.models.table import pack_text, unpack_text

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel
    from hatrix.models.terms import Given

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

__all__ = ["Attributes", "BagRows", "faults", "line_of", "of_others", "pack_bags", "unpack_bags"]

OTHERS, ATTRIBUTES = ("rated", "raters"), ("user_attributes", "item_attributes")
"""Names of fields, by side."""


class BagRows(NamedTuple):
    """The rows of a field of ``side`` by draw, shape (features, S, k + 1), factors and then bias.

    The features are those of a ``column`` of the side's table; without one, they are the rows of the other side.
    """

    side: int
    column: Column | None
    rows: NDArray[Any]

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All that it holds."""
        return (self.rows,) if self.column is None else (self.rows, self.column.values, self.column.edges)

    @property
    def owner(self) -> int | None:
        """The side whose rows the features are; None for those of a column."""
        return 1 - self.side if self.column is None else None

    def placed(self, place: tuple[Rows, Rows], sizes: tuple[int, int]) -> BagRows:
        """The same where the rows of either side have moved to ``place`` among so many; new ones like the mean."""
        if self.owner is None:
            return self
        rows = np.empty((sizes[self.owner], *self.rows.shape[1:]), self.rows.dtype)
        rows[:] = self.rows.mean(axis=0, dtype=np.float64)
        rows[place[self.owner]] = self.rows
        return self._replace(rows=rows)

    def kept(self, side: int, rows: Rows) -> BagRows:
        """The same for some rows of a side."""
        return self._replace(rows=self.rows[rows]) if self.owner == side else self

    def unknown(self, side: int) -> BagRows:
        """The same for a single row of a side, of which nothing was learned."""
        return self._replace(rows=np.zeros_like(self.rows[:1])) if self.owner == side else self


class Attributes:
    """What their attributes add to rows of a side, given in ascending order, by the lines of a table for each."""

    def __init__(self, model: FactorModel, side: int, rows: Rows, lines: pd.DataFrame | None = None) -> None:
        """By ``lines``, or by those of the model's own table."""
        table = (model.user_table, model.item_table)[side]
        if lines is None and table is not None:
            lines = table.iloc[rows]
        self._rows, self._held = rows, [] if lines is None else _held(model, side, lines)

    def known(self, row: int) -> bool:
        """Whether the row holds a feature."""
        line = int(np.searchsorted(self._rows, row))
        return any(start[line] < start[line + 1] for _, start, _ in self._held)

    def of(self, row: int) -> Floats | None:
        """The sum over the attributes of a row, shape (S, k + 1); None where it holds none."""
        line = int(np.searchsorted(self._rows, row))
        found = None
        for bag, start, feature in self._held:
            mine = feature[start[line] : start[line + 1]]
            if len(mine):
                share = bag.rows[mine].sum(axis=0, dtype=np.float64) / np.sqrt(len(mine))
                found = share if found is None else found + share
        return found


def _held(model: FactorModel, side: int, table: pd.DataFrame) -> list[tuple[BagRows, Rows, Rows]]:
    """The columns of a side, and the features that each line holds: those from one start to the next."""
    names, found = {str(name): name for name in table.columns}, []
    for bag in model.bags or ():
        if bag.side == side and bag.column is not None and bag.column.name in names:
            rows, feature = bag.column.held(table[names[bag.column.name]])
            found.append((bag, np.searchsorted(rows, np.arange(len(table) + 1)), feature))
    return found


def of_others(model: FactorModel, given: Given) -> Floats | None:
    """What each row that is rated, or rates, adds to the new row, shape (S, n, k + 1); None without that field."""
    for bag in model.bags or ():
        if bag.side == given.side and bag.column is None:
            rows = bag.rows[given.other].astype(np.float64).transpose(1, 0, 2)
            return np.asarray(rows / np.sqrt(max(1, len(given.other))))
    return None


def knows_attributes(model: FactorModel, side: int) -> bool:
    """Return whether the model learned from the attributes of a side, so that those of a new row count."""
    return ATTRIBUTES[side] in getattr(model.recipe, "fields", ())


def line_of(
    model: FactorModel, side: int, given: Mapping[str, Any] | None
) -> tuple[pd.DataFrame | None, list[str]]:
    """The attributes of a new row as a line of the side's table, and notes about what they leave open.

    Raises
    ------
    DataError
        If the model does not know attributes, or not these.
    """
    import pandas as pd

    if given is None:
        return None, []
    if not isinstance(given, Mapping):
        raise DataError(
            f"attributes are {type(given).__name__}: give them as a mapping, {{column: value, …}}"
        )
    table, field = (model.user_table, model.item_table)[side], ATTRIBUTES[side]
    if not knows_attributes(model, side):
        raise DataError(
            f"this {model.recipe.name} model knows no attributes of a new {('user', 'item')[side]}: they are for "
            f"bayesian-mf with the field {field}"
        )
    if model.bags is None:
        raise DataError(
            f"the model was saved by a hatrix that did not keep the rows of {field}: fit it again to use attributes"
        )
    columns = [bag.column for bag in model.bags if bag.side == side and bag.column is not None]
    known = [column.name for column in columns] if table is None else [str(name) for name in table.columns]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise DataError(f"there is no attribute {some_of(unknown)}: the model has {', '.join(known)}")
    notes, line = [], {name: _value(name, given.get(name)) for name in known}
    for column in columns:
        value = line[column.name]
        if value is None:
            notes.append(f"no {column.name} is given: it contributes nothing")
            continue
        if column.numeric and not _is_number(value):
            raise DataError(f"the attribute {column.name} is {value!r}: give a number")
        unsaid = _unsaid(column, value)
        if unsaid:
            notes.append(f"{column.name} {some_of(unsaid)} is unknown to the model: it contributes nothing")
    told = [column.name for column in columns]
    notes += [
        f"{name} is no field of the model: it contributes nothing" for name in given if name not in told
    ]
    return pd.DataFrame({name: pd.Series([value], dtype=object) for name, value in line.items()}), notes


def _value(name: str, value: Any) -> Any:
    import pandas as pd

    if np.ndim(value):
        raise DataError(
            f"the attribute {name} is a {type(value).__name__}: give one value, or a text with | between several"
        )
    return None if pd.isna(value) else value


def _is_number(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False


def _unsaid(column: Column, value: Any) -> list[Any]:
    """The values that no feature stands for."""
    import pandas as pd

    values = [value] if column.numeric else filter(None, map(str.strip, str(value).split("|")))
    return [one for one in values if not len(column.held(pd.Series([one], dtype=object))[0])]


def pack_bags(bags: tuple[BagRows, ...] | None) -> dict[str, NDArray[Any]]:
    """Bags as named arrays of a file."""
    if bags is None:
        return {}
    arrays: dict[str, NDArray[Any]] = {"bags.side": np.array([bag.side for bag in bags], np.int64)}
    names = pack_text(["" if bag.column is None else bag.column.name for bag in bags])
    arrays |= {f"bags.name{part}": array for part, array in names.items()}
    for number, (_, column, rows) in enumerate(bags):
        arrays[f"bags.{number}.rows"] = rows
        if column is not None:
            arrays[f"bags.{number}.edges"] = column.edges
            values = {"": column.values} if column.numeric else pack_text(column.values.tolist())
            arrays |= {f"bags.{number}.values{part}": array for part, array in values.items()}
    return arrays


def unpack_bags(arrays: dict[str, NDArray[Any]]) -> tuple[BagRows, ...] | None:
    """The bags that `pack_bags` took apart; takes their arrays out of ``arrays``."""
    if "bags.side" not in arrays:
        return None
    sides, names = take(arrays, "bags.side", "int64"), unpack_text(arrays, "bags.name")
    if len(sides) != len(names):
        raise ModelFileError(f"is not consistent: it has {len(sides)} bags and {len(names)} names of them")
    bags = []
    for number, (side, name) in enumerate(zip(sides.tolist(), names.tolist(), strict=True)):
        column, values = None, f"bags.{number}.values"
        if values in arrays:
            is_text = f"{values}.offsets" in arrays
            column = Column(
                name,
                np.array(unpack_text(arrays, values).tolist(), str) if is_text else take(arrays, values, "float64"),
                take(arrays, f"bags.{number}.edges", "float64"),
            )  # fmt: skip
        bags.append(BagRows(side, column, take(arrays, f"bags.{number}.rows", "float32", axes=3)))
    return tuple(bags)


def faults(model: FactorModel) -> Iterator[str]:
    """What contradicts itself in the bags of a model."""
    if model.bags is None:
        return
    if model.posterior is None:
        yield "it has bags, and no posterior that they belong to"
        return
    told, lengths = getattr(model.recipe, "fields", ()), (len(model.users), len(model.items))
    shape = (len(model.posterior.noise), model.posterior.user_prior.shape[-1])
    for bag in model.bags:
        if bag.side not in (USER, ITEM):
            yield f"a bag is of the side {bag.side}"
            return
        features = lengths[1 - bag.side] if bag.column is None else len(bag.column.values)
        if bag.rows.dtype != np.float32 or bag.rows.shape != (features, *shape):
            yield f"a bag is {bag.rows.dtype.name} of shape {bag.rows.shape} instead of float32 of {(features, *shape)}"
        if bag.column is not None:
            yield from _faults_of(bag.column)
    for side in (USER, ITEM):
        columns = [bag.column for bag in model.bags if bag.side == side]
        names = [column.name for column in columns if column is not None]
        if len(set(names)) < len(names):
            yield f"two bags of {ATTRIBUTES[side]} are of one column"
        if names and ATTRIBUTES[side] not in told:
            yield f"it has a bag of {ATTRIBUTES[side]}, which its recipe has not"
        if columns.count(None) != (OTHERS[side] in told):
            yield f"its bags of {OTHERS[side]} do not fit its recipe"


def _faults_of(column: Column) -> Iterator[str]:
    values, edges = column.values, column.edges
    if len(values) < 2 or any(not a < b for a, b in pairwise(values.tolist())):
        yield f"the values of the column {column.name!r} are not in order"
    if not (edges[1:] > edges[:-1]).all() or (len(edges) and not column.numeric):
        yield f"the edges of the column {column.name!r} are not in order"
    elif len(edges) and not np.isin(values, np.arange(len(edges) + 1)).all():
        yield f"a value of the column {column.name!r} is not the number of a bin"
