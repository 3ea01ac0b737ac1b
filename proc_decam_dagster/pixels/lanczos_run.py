"""The innermost steps of a Lanczos-3 resampling, `LANES` pixels at once, written in vector instructions.

Numba alone makes scalar ones of loops as short as these, which take five times as long.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

ORDER = 3
TAPS = 2 * ORDER
LANES = 16
OUTSIDE = -1
"""Bits of a pixel that no input reaches."""

_FLOATS, _INTEGERS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)
_MAY_FUSE = ("contract",)


def lanczos_weights(fraction) -> np.ndarray:
    """Return the 6 normalised weights that interpolate at ``fraction`` (0…1) past the third tap, (…, 6)."""
    distance = np.arange(1 - ORDER, ORDER + 1) - np.asarray(fraction, float)[..., None]
    weights = np.sinc(distance) * np.sinc(distance / ORDER) * (np.abs(distance) < ORDER)
    return weights / weights.sum(-1, keepdims=True)


def weight_polynomials() -> tuple[np.ndarray, np.ndarray]:
    """Return what the weights of taps 0, 1, 2 and 5, 4, 3 are made of, (5, 3) and (4, 3): true to 3e-6.

    With g the fraction less 0.5, a tap's weight is E(g²) + g O(g²), and that of the tap opposite E(g²) - g O(g²); the
    first array holds the coefficients of E, the second those of O.
    """
    g = 0.5 * np.cos(np.linspace(0, np.pi, 2001))  # dense where a polynomial's error would be largest
    weights = lanczos_weights(g + 0.5)
    near, far = weights[:, :ORDER], weights[:, : ORDER - 1 : -1]
    even = np.linalg.lstsq(np.vander(g * g, 5, increasing=True), (near + far) / 2, rcond=None)[0]
    odd = np.linalg.lstsq(g[:, None] * np.vander(g * g, 4, increasing=True), (near - far) / 2, rcond=None)[0]
    return even, odd


class _Vectors:
    """Makes the instructions of one kernel."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=_MAY_FUSE)

    def times(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b, flags=_MAY_FUSE)

    def constant(self, value: float) -> Any:
        return ir.Constant(_FLOATS, [float(value)] * LANES)

    def repeated(self, scalar: Any) -> Any:
        """Return a vector that holds a scalar in each lane."""
        nothing, lane = ir.Constant(_FLOATS, ir.Undefined), ir.IntType(32)
        vector = self.builder.insert_element(nothing, scalar, lane(0))
        return self.builder.shuffle_vector(vector, nothing, ir.Constant(_INTEGERS, [0] * LANES))

    def polynomial(self, coefficients: np.ndarray, u: Any) -> Any:
        total = self.constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            total = self.add(self.times(total, u), self.constant(coefficient))
        return total

    def beyond_middle(self, part: Any, slope: Any) -> Any:
        """Return by how much each position's fraction of a pixel exceeds a half."""
        lanes = ir.Constant(_FLOATS, [float(k) for k in range(LANES)])
        start = self.add(self.repeated(part), self.constant(-0.5))
        return self.add(self.times(lanes, self.repeated(slope)), start)

    def weights(self, g: Any) -> list[Any]:
        """Return the weights of the six taps."""
        even, odd = weight_polynomials()
        u, near, far = self.times(g, g), [], []
        for k in range(ORDER):
            e, o = self.polynomial(even[:, k], u), self.times(g, self.polynomial(odd[:, k], u))
            near.append(self.add(e, o))
            far.append(self.builder.fsub(e, o, flags=_MAY_FUSE))
        return near + far[::-1]

    def pointer(self, array: Any, row: Any, column: Any, kind: ir.Type) -> Any:
        """Return where `LANES` values of a 2-d array lie; its rows are contiguous."""
        stride = cgutils.unpack_tuple(self.builder, array.strides)[0]
        place = self.builder.add(self.builder.mul(row, stride), self.builder.mul(column, ir.Constant(column.type, 4)))
        start = self.builder.ptrtoint(array.data, place.type)
        return self.builder.inttoptr(self.builder.add(start, place), kind.as_pointer())

    def load(self, array: Any, row: Any, column: Any, kind: ir.Type = _FLOATS) -> Any:
        return self.builder.load(self.pointer(array, row, column, kind), align=4)

    def store(self, vector: Any, array: Any, row: Any, column: Any) -> None:
        self.builder.store(vector, self.pointer(array, row, column, vector.type), align=4)


def _check(kinds: dict[str, Any], dtype: types.Type) -> None:
    for name, kind in kinds.items():
        if not (isinstance(kind, types.Array) and kind.ndim == 2 and kind.dtype == dtype):
            raise TypeError(f"{name} must be a 2-d array of {dtype}, not {kind}")


@intrinsic
def interpolate(
    typingctx, image, variance, around, row, column, parts, slopes, factors, values, errors, bits, line, place
):
    """Interpolate `LANES` positions that are a pixel apart along a row; return whether one of the values is NaN.

    Nothing is checked: all pixels named must be there, and rows of all arrays contiguous.

    Parameters
    ----------
    image, variance : `numpy.ndarray`, (ny, nx), float32
        Input: rows ``row - 2`` to ``row + 3`` of the first, columns ``column - 2`` to ``column + LANES + 2``; rows
        ``row`` and ``row + 1`` of the second, columns ``column`` to ``column + LANES``.
    around : `numpy.ndarray`, (ny, nx), int32
        Bits of the pixels around each position: of row ``row``, columns ``column`` to ``column + LANES - 1``.
    row, column : `int`
        Pixel that the first position follows.
    parts, slopes : `tuple` [`numpy.float32`, `numpy.float32`]
        Fraction of a pixel, x and y, by which the first position follows it, and by how much it grows for each.
    factors : `tuple` [`numpy.float32`, `numpy.float32`]
        Of the values and of their variances, which are those of the nearest pixels.
    values, errors, bits : `numpy.ndarray`, 2-d, float32, float32, int32
        Output, from (line, place) on.
    line, place : `int`
    """
    _check({"image": image, "variance": variance, "values": values, "errors": errors}, types.float32)
    _check({"around": around, "bits": bits}, types.int32)
    pair = types.UniTuple(types.float32, 2)

    def generate(context, builder, signature, arguments):
        names = ("image", "variance", "around", "values", "errors", "bits")
        order = (0, 1, 2, 8, 9, 10)
        given = {n: make_array(signature.args[k])(context, builder, arguments[k]) for n, k in zip(names, order)}
        row, column, line, place = arguments[3], arguments[4], arguments[11], arguments[12]
        part, slope, factor = (cgutils.unpack_tuple(builder, arguments[k], 2) for k in (5, 6, 7))
        v = _Vectors(builder)

        def at(start, step):
            return builder.add(start, ir.Constant(start.type, step))

        g_x, g_y = v.beyond_middle(part[0], slope[0]), v.beyond_middle(part[1], slope[1])
        along, across = v.weights(g_x), v.weights(g_y)
        total = None
        for k in range(TAPS):
            inner = None
            for tap in range(TAPS):
                term = v.times(v.load(given["image"], at(row, k - 2), at(column, tap - 2)), along[tap])
                inner = term if inner is None else v.add(inner, term)
            term = v.times(inner, across[k])
            total = term if total is None else v.add(total, term)
        v.store(v.times(total, v.repeated(factor[0])), given["values"], line, place)
        zero = v.constant(0)
        right, below = builder.fcmp_ordered(">=", g_x, zero), builder.fcmp_ordered(">=", g_y, zero)
        nearest = [
            builder.select(right, v.load(given["variance"], at(row, k), at(column, 1)),
                           v.load(given["variance"], at(row, k), column))
            for k in (0, 1)
        ]  # fmt: skip
        error = v.times(builder.select(below, nearest[1], nearest[0]), v.repeated(factor[1]))
        v.store(error, given["errors"], line, place)
        v.store(v.load(given["around"], row, column, _INTEGERS), given["bits"], line, place)
        unknown = builder.bitcast(builder.fcmp_unordered("uno", total, total), ir.IntType(LANES))
        return builder.icmp_unsigned("!=", unknown, ir.Constant(unknown.type, 0))

    index = types.intp
    taken = (image, variance, around, index, index, pair, pair, pair, values, errors, bits, index, index)
    return types.boolean(*taken), generate


@intrinsic
def put(typingctx, values, errors, bits, line, place, nodata, out, out_variance, out_mask, row, column):
    """Write `LANES` new pixels where there are none yet; where the new one is NaN only its bits are added.

    Return whether any of them has a value now.

    Parameters
    ----------
    values, errors, bits : `numpy.ndarray`, 2-d, float32, float32, int32
        New pixels, from (line, place) on; those whose bits are `OUTSIDE` are none.
    line, place : `int`
    nodata : `int`
        Bit of pixels that have no value yet.
    out, out_variance, out_mask : `numpy.ndarray`, 2-d, float32, float32, int32
        Changed from (row, column) on.
    row, column : `int`
    """
    _check({"values": values, "errors": errors, "out": out, "out_variance": out_variance}, types.float32)
    _check({"bits": bits, "out_mask": out_mask}, types.int32)

    def generate(context, builder, signature, arguments):
        names = ("values", "errors", "bits", "out", "out_variance", "out_mask")
        order = (0, 1, 2, 6, 7, 8)
        given = {n: make_array(signature.args[k])(context, builder, arguments[k]) for n, k in zip(names, order)}
        line, place, nodata, row, column = (arguments[k] for k in (3, 4, 5, 9, 10))
        v = _Vectors(builder)
        new, old = v.load(given["bits"], line, place, _INTEGERS), v.load(given["out_mask"], row, column, _INTEGERS)
        value = v.load(given["values"], line, place)
        nothing = ir.Constant(_INTEGERS, ir.Undefined)
        bit = builder.shuffle_vector(
            builder.insert_element(nothing, nodata, ir.IntType(32)(0)), nothing, ir.Constant(_INTEGERS, [0] * LANES)
        )
        empty = builder.icmp_signed("!=", builder.and_(old, bit), ir.Constant(_INTEGERS, [0] * LANES))
        reached = builder.icmp_signed("!=", new, ir.Constant(_INTEGERS, [OUTSIDE] * LANES))
        fresh = builder.and_(empty, reached)
        known = builder.and_(fresh, builder.fcmp_ordered("ord", value, value))
        flags = builder.select(known, new, builder.select(fresh, builder.or_(old, new), old))
        v.store(flags, given["out_mask"], row, column)
        for name, vector in (("out", value), ("out_variance", v.load(given["errors"], line, place))):
            before = v.load(given[name], row, column)
            v.store(builder.select(known, vector, before), given[name], row, column)
        valid = builder.icmp_signed("==", builder.and_(new, bit), ir.Constant(_INTEGERS, [0] * LANES))
        lanes = builder.bitcast(builder.and_(known, valid), ir.IntType(LANES))
        return builder.icmp_unsigned("!=", lanes, ir.Constant(lanes.type, 0))

    index = types.intp
    taken = (values, errors, bits, index, index, types.int32, out, out_variance, out_mask, index, index)
    return types.boolean(*taken), generate
