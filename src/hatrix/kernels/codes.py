"""The best items of each user, exactly, from eight-bit codes of the factors: most scores are never computed.

A row of factors is a scale times whole numbers from -127 to 127, its codes, and a rest. With x = α p + d for a user and
y = β q + e for an item,

    x · y  ≤  α β (p · q) + |d| |y| + |x - d| |e|,

and p · q is a sum of products of bytes, of which one instruction of the processor adds 64. Only an item whose bound
reaches the worst of the user's best so far is scored, from the factors themselves and in double precision: of 40,000
items, a few hundred. The bias of an item is one more factor.

Items are laid out in tiles of 64, first what users like the given ones can be expected to score high, so that what is to
beat is soon high. A user is done as soon as |x| times the largest |y| of the items to come, and the highest bias of
those, is below it::

    tile t:   quad 0                          quad 1             …   The codes of four factors are neighbours, and
              item 0   item 1  …  item 63     item 0   …             those of one item after the other: a register holds
              q0q1q2q3 q0q1q2q3   q0q1q2q3    q4q5q6q7               four factors of 16 items.

Codes of items are stored with 128 added, as the instruction wants one of its factors without a sign.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from hatrix.kernels.compile import compiled, inlined
from hatrix.kernels.schedule import run_rows
from hatrix.kernels.topk import in_order, sink, sort

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = tuple[NDArray[np.int64], NDArray[np.int32]]

__all__ = ["Coded", "available", "best_of_coded", "code_items"]

TILE, LANES, USERS = 64, 16, 4
BLOCK = 128
"""Users that go through the tiles together; their codes stay in the first cache."""
MOST = 127
SAMPLE = 4096
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


class Coded(NamedTuple):
    """Item factors (the bias, over ``unit``, the last of them) in tiles.

    ``codes`` has shape (tiles, quads, 64, 4). ``item`` are the rows in that order, -1 where a tile is not full. Of the
    items of each tile, ``step`` is the scale of their codes, ``length`` the largest |y|, and ``rest`` the largest |e|. Of
    them and all to come, ``far`` is the largest |y| without the bias and ``high`` the highest bias.
    """

    codes: NDArray[np.uint8]
    item: NDArray[np.int32]
    step: NDArray[np.float64]
    length: NDArray[np.float64]
    rest: NDArray[np.float64]
    far: NDArray[np.float64]
    high: NDArray[np.float64]
    unit: float


@lru_cache
def available() -> bool:
    """Whether the processor has the instruction, and numba may use it."""
    if config.CPU_NAME is not None or config.CPU_FEATURES is not None:
        return False
    try:
        return bool(binding.get_host_cpu_features().get("avx512vnni"))
    except RuntimeError:  # where LLVM cannot tell
        return False


def code_items(user_factors: NDArray[Any], factors: NDArray[Any], bias: NDArray[Any]) -> Coded:
    """Codes of item factors and biases, shapes (items, k) and (items,), for users like the given ones."""
    n, k = factors.shape
    factors, bias, tiles = _frozen(factors), _frozen(bias), -(-n // TILE)
    some = user_factors[:: max(1, len(user_factors) // SAMPLE)].astype(np.float64)
    center = some.mean(axis=0) if len(some) else np.zeros(k)
    # Two standard deviations of the score of a direction without preference.
    spread = 2 * float(np.sqrt(np.square(some - center).mean())) if some.size else 0.0
    promise = np.empty(n)
    _promise(factors, bias, center, spread, promise)
    item = np.full(tiles * TILE, -1, np.int32)
    item[:n] = np.argsort(-promise, kind="stable")
    codes = np.full((tiles, (k + 4) // 4, TILE, 4), MOST + 1, np.uint8)
    unit, step, (length, rest, far) = _unit(some, factors, bias), np.ones(tiles), np.zeros((3, tiles))
    high = np.full(tiles, -np.inf)
    _code(factors, bias, unit, item, codes, step, length, rest, far, high)
    far, high = (np.maximum.accumulate(array[::-1])[::-1].copy() for array in (far, high))
    return Coded(codes, item, step, length, rest, far, high, unit)


def best_of_coded(
    coded: Coded,
    user_factors: NDArray[Any],
    item_factors: NDArray[Any],
    item_bias: NDArray[Any],
    n: int,
    *,
    level: NDArray[np.float64],
    seen: Rows | None,
    allowed: NDArray[np.bool_] | None,
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Item rows and scores ``level[u] + user_factors[u] · item_factors[i] + item_bias[i]`` of the n best items.

    As `hatrix.kernels.topk.top_n`, but all in double precision. Items that are not ``allowed`` are in no list.
    """
    m, n_items = len(user_factors), len(item_factors)
    items, scores = np.full((m, n), -1, np.int32), np.full((m, n), -np.inf)
    start, item = in_order(seen, m, n_items)
    given = [
        _frozen(array) for array in (*coded[:7], user_factors, item_factors, item_bias, level, start, item)
    ]
    if allowed is None:
        allowed = np.ones(n_items, np.bool_)

    def run(first: int, last: int) -> None:
        _scan(first, last, coded.unit, *given, allowed, items, scores)

    run_rows(run, np.arange(m + 1) * n_items, threads=threads)
    return items, scores


def _unit(users: NDArray[Any], factors: NDArray[Any], bias: NDArray[Any]) -> float:
    """The factor of users for the bias: at least as large as others, and more where biases are the larger part of items."""
    stride = max(1, len(factors) // SAMPLE)
    user, item, level = (
        float(np.abs(rows).max(axis=1, initial=0).mean()) if len(rows) else 0.0
        for rows in (users, factors[::stride], bias[::stride, None])
    )
    shared = np.sqrt(user * level / item) if item > 0 else 0.0
    return float(max(user, shared)) or 1.0


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written to, so that kernels are compiled for one kind of array."""
    view = np.ascontiguousarray(array).view()
    view.setflags(write=False)
    return view


@intrinsic
def _reached(
    typing_context: Any,  # noqa: ARG001
    codes: Any,
    tile: Any,
    user_codes: Any,
    rows: Any,
    least: Any,
    masks: Any,
) -> Any:
    """``masks[r]``: which of the 64 items of a tile have ``p · q ≥ least[r]`` with the codes of row ``rows[r]``, four r."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = [
            context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, arguments, strict=True)
        ]
        tiles, number, users, rows_, least_, masks_ = arrays
        bytes_ = ir.VectorType(_I32, LANES)
        quads = builder.extract_value(tiles.shape, 1)
        one_tile = builder.mul(quads, ir.Constant(_I64, TILE * 4))
        start = builder.gep(builder.bitcast(tiles.data, cgutils.voidptr_t), [builder.mul(number, one_tile)])
        row_bytes = builder.mul(quads, ir.Constant(_I64, 4))
        user = []
        for r in range(USERS):
            row = builder.load(builder.gep(rows_.data, [ir.Constant(_I64, r)]))
            offset = builder.mul(row, row_bytes)
            user.append(builder.gep(builder.bitcast(users.data, cgutils.voidptr_t), [offset]))
        groups = TILE // LANES
        zero = ir.Constant(bytes_, [0] * LANES)
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(groups)] for _ in range(USERS)]
        shape = ir.FunctionType(bytes_, [bytes_] * 3)
        name = f"llvm.x86.avx512.vpdpbusd.{32 * LANES}"
        multiply = builder.module.globals.get(name) or ir.Function(builder.module, shape, name)
        with cgutils.for_range(builder, quads) as loop:
            at = builder.gep(start, [builder.mul(loop.index, ir.Constant(_I64, TILE * 4))])
            item = []
            for g in range(groups):
                place = builder.bitcast(
                    builder.gep(at, [ir.Constant(_I64, g * LANES * 4)]), bytes_.as_pointer()
                )
                item.append(builder.load(place, align=4))
            for r in range(USERS):
                place = builder.gep(user[r], [builder.mul(loop.index, ir.Constant(_I64, 4))])
                quad = builder.load(builder.bitcast(place, _I32.as_pointer()), align=4)
                empty = ir.Constant(bytes_, ir.Undefined)
                spread = builder.shuffle_vector(
                    builder.insert_element(empty, quad, ir.Constant(_I32, 0)), empty, zero
                )
                for g in range(groups):
                    total = builder.call(multiply, [builder.load(sums[r][g]), item[g], spread])
                    builder.store(total, sums[r][g])
        for r in range(USERS):
            limit = builder.load(builder.gep(least_.data, [ir.Constant(_I64, r)]))
            empty = ir.Constant(bytes_, ir.Undefined)
            spread = builder.shuffle_vector(
                builder.insert_element(empty, limit, ir.Constant(_I32, 0)), empty, zero
            )
            mask = ir.Constant(_I64, 0)
            for g in range(groups):
                above = builder.icmp_signed(">=", builder.load(sums[r][g]), spread)
                bits = builder.zext(builder.bitcast(above, ir.IntType(LANES)), _I64)
                mask = builder.or_(mask, builder.shl(bits, ir.Constant(_I64, g * LANES)))
            builder.store(mask, builder.gep(masks_.data, [ir.Constant(_I64, r)]))
        return context.get_dummy_value()

    return types.void(codes, tile, user_codes, rows, least, masks), generate


@intrinsic
def _lowest_bit(typing_context: Any, mask: Any) -> Any:  # noqa: ARG001
    """The place of the lowest bit that is set; there must be one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@compiled
def _promise(factors, bias, center, spread, promise):
    for i in range(len(factors)):
        square, score = 0.0, 0.0
        for f in range(factors.shape[1]):
            y = np.float64(factors[i, f])
            square += y * y
            score += y * center[f]
        promise[i] = bias[i] + score + spread * np.sqrt(square)


@compiled
def _code(factors, bias, unit, item, codes, step, length, rest, far, high):
    k = factors.shape[1]
    y = np.empty((TILE, k + 1))
    for tile in range(len(step)):
        largest = 0.0
        for lane in range(TILE):
            i = item[tile * TILE + lane]
            if i < 0:
                y[lane] = 0
                continue
            for f in range(k):
                y[lane, f] = factors[i, f]
            y[lane, k] = np.float64(bias[i]) / unit
            square = 0.0
            for f in range(k):
                square += y[lane, f] ** 2
                largest = max(largest, abs(y[lane, f]))
            largest = max(largest, abs(y[lane, k]))
            far[tile] = max(far[tile], np.sqrt(square))
            high[tile] = max(high[tile], np.float64(bias[i]))
            length[tile] = max(length[tile], np.sqrt(square + y[lane, k] ** 2))
        if largest > 0:
            step[tile] = largest / MOST
        for lane in range(TILE):
            error = 0.0
            for f in range(k + 1):
                q = np.floor(y[lane, f] / step[tile] + 0.5)
                error += (y[lane, f] - q * step[tile]) ** 2
                codes[tile, f // 4, lane, f % 4] = np.uint8(np.int64(q) + MOST + 1)
            rest[tile] = max(rest[tile], np.sqrt(error))


@inlined
def _code_user(factors, unit, codes):
    # 1 / α, |d|, |x - d|, |x| without the bias, and 128 Σ p.
    k, largest, total = len(factors), unit, 0.0
    for f in range(k):
        x = np.float64(factors[f])
        largest = max(largest, abs(x))
        total += x * x
    step, error, near, shift = largest / MOST, 0.0, 0.0, 0.0
    for f in range(k + 1):
        x = np.float64(factors[f]) if f < k else unit
        p = np.floor(x / step + 0.5)
        codes[f] = np.int8(p)
        error += (x - p * step) ** 2
        near += (p * step) ** 2
        shift += p
    return 1 / step, np.sqrt(error), np.sqrt(near), np.sqrt(total), (MOST + 1) * shift


@inlined
def _contains(item, low, high, wanted):
    end = high
    while low < high:
        middle = (low + high) // 2
        if item[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low < end and item[low] == wanted


@compiled
def _scan(
    first, last, unit, codes, order, step, length, rest, far, high,
    user_factors, item_factors, item_bias, level, start, seen, allowed, items, scores,
):  # fmt: skip
    k, n = user_factors.shape[1], items.shape[1]
    user_codes = np.zeros((BLOCK, 4 * codes.shape[1]), np.int8)
    user = np.empty((BLOCK, 5))
    active, rows = np.empty(BLOCK, np.int64), np.empty(USERS, np.int64)
    least, masks = np.empty(USERS, np.int32), np.empty(USERS, np.uint64)
    for begin in range(first, last, BLOCK):
        count = min(BLOCK, last - begin)
        for a in range(count):
            active[a] = a
            user[a] = _code_user(user_factors[begin + a], unit, user_codes[a])
        for tile in range(len(step)):
            left = 0
            for a in range(count):  # who can still find something better
                at = active[a]
                worst = scores[begin + at, 0]
                reach = user[at, 3] * far[tile] * (1 + 1e-9) + 1e-12 * (abs(worst) + abs(high[tile]))
                if level[begin + at] + high[tile] + reach >= worst:
                    active[left] = at
                    left += 1
            count = left
            if count == 0:
                break
            for a in range(0, count, USERS):
                here = min(USERS, count - a)
                for r in range(USERS):
                    at = active[a + min(r, here - 1)]
                    worst = scores[begin + at, 0]
                    slack = user[at, 1] * length[tile] + user[at, 2] * rest[tile] + 1e-12 * abs(worst)
                    wanted = (worst - level[begin + at] - slack) * user[at, 0] / step[tile]
                    # One less than that: rounding here is far smaller.
                    wanted = np.floor(wanted + user[at, 4]) - 1
                    rows[r] = at
                    least[r] = np.int32(min(max(wanted, -2147483648.0), 2147483647.0))
                _reached(codes, tile, user_codes, rows, least, masks)
                for r in range(here):
                    mask, u = masks[r], begin + rows[r]
                    while mask != 0:
                        i = order[tile * TILE + _lowest_bit(mask)]
                        mask &= mask - np.uint64(1)
                        if i < 0 or not allowed[i]:
                            continue
                        score = np.float64(0)
                        for f in range(k):
                            score += np.float64(user_factors[u, f]) * np.float64(item_factors[i, f])
                        score += level[u] + item_bias[i]
                        if score < scores[u, 0] or (score == scores[u, 0] and i > items[u, 0]):
                            continue
                        if not _contains(seen, start[u], start[u + 1], i):
                            scores[u, 0], items[u, 0] = score, i
                            sink(scores[u], items[u], n, 0)
    sort(n, items[first:last], scores[first:last])
