"""Whole rows of a matrix as single LLVM vectors, for kernels that LLVM would not vectorise as well by itself.

A row of ``lanes`` numbers is loaded at once, lives in vector registers, and is stored at once; ``lanes`` is
a compile-time constant. Rows shorter than that are padded with zeros, and since every update below maps zeros
to zeros, the padding never changes.

The fast-math flags allow reassociation and contraction but never assume that numbers are finite: training
checks for NaN and infinity, and must see them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import PrimitiveModel
from numba.extending import intrinsic, register_model

from hatrix.kernels.compile import FAST_MATH

__all__ = ["combine", "dot", "load", "multiply", "prefetch", "store"]

_FLAGS = tuple(sorted(FAST_MATH))
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_ELEMENT = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
_SUFFIX = {types.float32: "f32", types.float64: "f64"}
_BYTES = {types.float32: 4, types.float64: 8}


class Row(types.Type):
    """A row in registers: ``lanes`` numbers of one float type."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Row({dtype}, {lanes})")


@register_model(Row)
class _RowModel(PrimitiveModel):
    def __init__(self, manager: Any, kind: Row) -> None:
        super().__init__(manager, kind, ir.VectorType(_ELEMENT[kind.dtype], kind.lanes))


def _address(context: Any, builder: Any, array_type: Any, array: Any, row: Any, lanes: int) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    row = builder.zext(row, _I64) if row.type.width < 64 else row
    offset = builder.mul(row, ir.Constant(_I64, lanes * _BYTES[array_type.dtype]))
    return builder.gep(builder.bitcast(data, cgutils.voidptr_t), [offset])


def _splat(builder: Any, number: Any, vector: ir.VectorType) -> Any:
    empty = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(empty, number, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, empty, zeros)


@intrinsic(prefer_literal=True)
def load(typing_context: Any, matrix: Any, row: Any, lanes: Any) -> Any:  # noqa: ARG001
    """``matrix[row]``, whose row length is the literal ``lanes``."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    kind = Row(matrix.dtype, lanes.literal_value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], arguments[0], arguments[1], kind.lanes)
        vector = context.get_value_type(kind)
        return builder.load(builder.bitcast(address, vector.as_pointer()), align=_BYTES[kind.dtype])

    return kind(matrix, row, lanes), generate


@intrinsic
def store(typing_context: Any, matrix: Any, row: Any, values: Any) -> Any:  # noqa: ARG001
    """``matrix[row] = values``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[2]
        address = _address(context, builder, signature.args[0], arguments[0], arguments[1], kind.lanes)
        vector = context.get_value_type(kind)
        pointer = builder.bitcast(address, vector.as_pointer())
        builder.store(arguments[2], pointer, align=_BYTES[kind.dtype])
        return context.get_dummy_value()

    return types.void(matrix, row, values), generate


@intrinsic
def dot(typing_context: Any, a: Any, b: Any) -> Any:  # noqa: ARG001
    """``a · b``, summed in whatever order is fastest (the same one every time)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        number, vector = _ELEMENT[kind.dtype], context.get_value_type(kind)
        name = f"llvm.vector.reduce.fadd.v{kind.lanes}{_SUFFIX[kind.dtype]}"
        shape = ir.FunctionType(number, [number, vector])
        reduce = builder.module.globals.get(name) or ir.Function(builder.module, shape, name)
        product = builder.fmul(*arguments, flags=_FLAGS)
        return builder.call(reduce, [ir.Constant(number, -0.0), product], fastmath=_FLAGS)

    return a.dtype(a, b), generate


@intrinsic
def combine(typing_context: Any, x: Any, a: Any, y: Any, b: Any) -> Any:  # noqa: ARG001
    """``x * a + y * b`` for numbers x, y and rows a, b."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(signature.args[1])
        x_, a_, y_, b_ = arguments
        left = builder.fmul(_splat(builder, x_, vector), a_, flags=_FLAGS)
        right = builder.fmul(_splat(builder, y_, vector), b_, flags=_FLAGS)
        return builder.fadd(left, right, flags=_FLAGS)

    return a(a.dtype, a, a.dtype, b), generate


@intrinsic
def multiply(typing_context: Any, a: Any, b: Any) -> Any:  # noqa: ARG001
    """The products of the numbers of rows a and b, place by place."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.fmul(*arguments, flags=_FLAGS)

    return a(a, b), generate


@intrinsic(prefer_literal=True)
def prefetch(typing_context: Any, matrix: Any, row: Any, lanes: Any) -> Any:  # noqa: ARG001
    """Ask for ``matrix[row]`` to be brought near, for a write to come."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    count = lanes.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        address = _address(context, builder, kind, arguments[0], arguments[1], count)
        shape = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        name = "llvm.prefetch.p0"
        fetch = builder.module.globals.get(name) or ir.Function(builder.module, shape, name)
        for byte in range(0, count * _BYTES[kind.dtype], 64):
            line = builder.gep(address, [ir.Constant(_I64, byte)])
            builder.call(fetch, [line, *(ir.Constant(_I32, flag) for flag in (1, 3, 1))])
        return context.get_dummy_value()

    return types.void(matrix, row, lanes), generate
