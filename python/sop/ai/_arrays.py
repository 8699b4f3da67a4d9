"""Matrices of float32 for the library: what is one already goes in by pointer, the rest is converted once.

NumPy is used when the caller's data is NumPy's, and imported for a call whose answer is a matrix.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from typing import Any, Iterable, List

from ..errors import DimensionMismatchError, ValidationError

_FLOAT = ctypes.sizeof(ctypes.c_float)


class FloatMatrix:
    """`rows` x `columns` float32 in C order at `address`, valid while this object lives."""

    def __init__(self, owner: Any, address: int, rows: int, columns: int, is_numpy: bool = False) -> None:
        self._owner = owner
        self.address = address
        self.rows = rows
        self.columns = columns
        self.is_numpy = is_numpy

    def part(self, rows: slice) -> FloatMatrix:
        """Some of the rows, not copied."""
        address = self.address + rows.start * self.columns * _FLOAT
        return FloatMatrix(self._owner, address, rows.stop - rows.start, self.columns, self.is_numpy)


class EmptyMatrix:
    """Room for `rows` x `columns` float32: of NumPy where that is given."""

    def __init__(self, rows: int, columns: int, numpy: Any) -> None:
        self.columns = columns
        self.is_numpy = numpy is not None
        if self.is_numpy:
            self.matrix = numpy.empty((rows, columns), dtype=numpy.float32)
            self._address = self.matrix.ctypes.data
        else:
            self.matrix = (ctypes.c_float * (rows * columns))()
            self._address = ctypes.addressof(self.matrix)

    def address_of(self, row: int) -> int:
        """Where a row is."""
        return int(self._address + row * self.columns * _FLOAT)

    def row(self, row: int) -> List[float]:
        """The numbers of a row."""
        return list(self.matrix[row * self.columns : (row + 1) * self.columns])

    def first(self, rows: int) -> Any:
        """The first rows, as a matrix for whoever asked for it."""
        if self.is_numpy:
            return self.matrix[:rows]
        size = rows * self.columns * _FLOAT
        # A memoryview has no rows of nothing.
        return memoryview(self.matrix).cast("B")[:size].cast("f", (rows, self.columns)) if size else []


def installed_numpy() -> Any:
    """NumPy, imported, or None where it is not installed."""
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def float_matrix(source: Any, what: str) -> FloatMatrix:
    """The matrix in a NumPy array, a buffer of two dimensions, or a list of vectors; `what` is for errors."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(source, "__array__"):
        return _from_numpy(numpy, source, what)
    try:
        view = memoryview(source)
    except TypeError:
        return _from_rows(source, what)
    return _from_view(view, what)


def _from_numpy(numpy: Any, source: Any, what: str) -> FloatMatrix:
    matrix = numpy.asarray(source)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise ValidationError(
            f"{what} must have two dimensions of numbers, not {matrix.ndim} of {matrix.dtype}"
        )
    with numpy.errstate(all="ignore"):  # what overflows becomes infinite, which the library refuses
        matrix = numpy.ascontiguousarray(matrix, dtype=numpy.float32)
    rows, columns = matrix.shape
    return FloatMatrix(matrix, matrix.ctypes.data, rows, columns, is_numpy=True)


def _from_view(view: memoryview, what: str) -> FloatMatrix:
    if view.ndim != 2 or view.shape is None:
        raise ValidationError(f"{what} must have two dimensions, not {view.ndim}")
    rows, columns = view.shape
    if view.format not in ("f", "@f", "=f") or not view.c_contiguous or rows * columns == 0:
        return _from_rows(view.tolist(), what)
    bytes_of = view.cast("B")
    floats = ctypes.c_float * (rows * columns)
    owner = floats.from_buffer_copy(bytes_of) if view.readonly else floats.from_buffer(bytes_of)
    return FloatMatrix(owner, ctypes.addressof(owner), rows, columns)


def _from_rows(source: Iterable[Any], what: str) -> FloatMatrix:
    floats = array("f")
    rows, columns = 0, 0
    try:
        for row in source:
            before = len(floats)
            floats.extend(iter(row))
            length = len(floats) - before
            if rows == 0:
                columns = length
            elif length != columns:
                raise DimensionMismatchError(
                    f"{what}: vector {rows} has {length} numbers, the first {columns}"
                )
            rows += 1
    except (TypeError, ValueError, OverflowError) as error:
        raise ValidationError(f"{what} must be vectors of numbers; vector {rows} is not: {error}") from error
    return FloatMatrix(floats, floats.buffer_info()[0], rows, columns)
