"""The innermost sum of a Lanczos-3 resampling, written in vector instructions: numba alone makes scalar ones of it."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

TAPS = 6
_FLOAT, _LANE = ir.FloatType(), ir.IntType(32)
_LEFT, _RIGHT = ir.VectorType(_FLOAT, 4), ir.VectorType(_FLOAT, 2)


def _load(builder, pointer, kind):
    """Return the floats at a pointer as a vector."""
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=4)


def _repeated(builder, value, kind):
    """Return a vector that holds a value in each lane."""
    nothing = ir.Constant(kind, ir.Undefined)
    vector = builder.insert_element(nothing, value, _LANE(0))
    return builder.shuffle_vector(vector, nothing, ir.Constant(ir.VectorType(_LANE, kind.count), [0] * kind.count))


@intrinsic
def weighted_sum(typingctx, image, row, column, wx, wy):
    """Return the sum of 6×6 pixels, the first at (row, column), each times the weights of its column and its row.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32, C-contiguous
        Must hold all of the 36 pixels: nothing is checked.
    row, column : `int`
    wx, wy : `numpy.ndarray`, (6,), float32, contiguous
    """
    for array in (image, wx, wy):
        if not (isinstance(array, types.Array) and array.dtype == types.float32 and array.layout == "C"):
            raise TypeError(f"weighted_sum takes C-contiguous float32 arrays, not {array}")

    def generate(context, builder, signature, arguments):
        image, row, column, wx, wy = arguments
        image, wx, wy = (
            make_array(kind)(context, builder, value)
            for kind, value in zip((signature.args[0], *signature.args[3:]), (image, wx, wy))
        )
        width = cgutils.unpack_tuple(builder, image.shape)[1]
        four = ir.Constant(row.type, 4)
        offset = builder.add(builder.mul(row, width), column)
        left, right = ir.Constant(_LEFT, [0.0] * 4), ir.Constant(_RIGHT, [0.0] * 2)
        for tap in range(TAPS):
            pixels = builder.gep(image.data, [offset])
            weight = builder.load(builder.gep(wy.data, [ir.Constant(row.type, tap)]))
            term = builder.fmul(_load(builder, pixels, _LEFT), _repeated(builder, weight, _LEFT), flags=("contract",))
            left = builder.fadd(left, term, flags=("contract",))
            pixels = builder.gep(pixels, [four])
            term = builder.fmul(_load(builder, pixels, _RIGHT), _repeated(builder, weight, _RIGHT), flags=("contract",))
            right = builder.fadd(right, term, flags=("contract",))
            offset = builder.add(offset, width)
        left = builder.fmul(left, _load(builder, wx.data, _LEFT))
        right = builder.fmul(right, _load(builder, builder.gep(wx.data, [four]), _RIGHT))
        lanes = [builder.extract_element(left, _LANE(k)) for k in range(4)]
        lanes += [builder.extract_element(right, _LANE(k)) for k in range(2)]
        total = lanes[0]
        for lane in lanes[1:]:
            total = builder.fadd(total, lane)
        return total

    return types.float32(image, types.intp, types.intp, wx, wy), generate
