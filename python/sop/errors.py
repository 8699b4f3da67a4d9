"""The exceptions of the package, and the one table from the library's error codes to them.

Every exception carries `code` (the library's number), `retryable` (run the whole transaction again, it may
succeed) and `details` (a dict: store, key, file, offset, as far as they apply).

Release 2.0.17 raised `BtreeError` for whatever went wrong in a B-tree call. So that `except BtreeError` keeps
its meaning, a B-tree call raises a class that is both: a missing store, say, is a `StoreNotFoundError` and a
`BtreeError` (and so a `TransactionError`). Outside B-tree calls the classes are the plain ones below.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Mapping, TypeVar, cast

CODE_INTERNAL = 80


class Error(Exception):
    """Anything that this package raises on purpose."""

    code: int = CODE_INTERNAL
    retryable: bool = False
    details: Mapping[str, Any]

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        retryable: bool | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable
        self.details = dict(details or {})


class TransactionError(Error):
    """A transaction could not do what was asked of it."""


class ConflictError(TransactionError):
    """Another transaction committed first to what this one used. Nothing was stored; run it again."""

    code = 10
    retryable = True


class TransactionTimeoutError(TransactionError):
    """The transaction is older than its max_time. Nothing was stored; run it again."""

    code = 12
    retryable = True


class ContextCancelledError(TransactionError):
    """The call's context was cancelled, or is not known any more."""

    code = 13


class InvalidTransactionStateError(TransactionError):
    """The transaction has not begun, has ended, or is one that only reads."""

    code = 20


class BtreeError(TransactionError):
    """What 2.0.17 raised for B-tree calls. Everything that a B-tree call raises is one of these."""


class StoreNotFoundError(Error):
    """No store has this name."""

    code = 30


class ItemNotFoundError(Error, KeyError):
    """No vector has this id, or no model this category and name."""

    code = 31
    __str__ = Exception.__str__  # that of a KeyError is a repr


class ValidationError(Error):
    """An argument is outside its limits, or the store exists with other options. Nothing was stored."""

    code = 40


class DimensionMismatchError(ValidationError):
    """The vector is not as long as the store's first one."""

    code = 41


class FilterError(ValidationError):
    """The filter is not one the store understands."""

    code = 42


class StorageError(Error):
    """The operating system refused a file operation, or the database was closed."""

    code = 50


class CorruptionError(StorageError):
    """Bytes read from disk are not the bytes once written there."""

    code = 51


class DiskFullError(StorageError):
    """The disk is full. Nothing was stored; free space and run it again."""

    code = 52


class DrivesLostError(StorageError):
    """More drives or folders are lost than the redundancy tolerates. Nothing was stored."""

    code = 54


class LockedError(StorageError):
    """Another process held a lock for longer than the limit."""

    code = 14
    retryable = True


class ForkedHandleError(Error):
    """The object was opened before a fork, in the parent process. Open it anew in this one."""

    code = 61


class UnsupportedError(Error):
    """This version does not have the feature; the message names what to use instead."""

    code = 70


class RedisError(Error):
    """The Redis server cannot be reached, or its URL is not one."""

    code = 71


class NativePanicError(Error):
    """A defect of the library, stopped at its boundary. Do not use the object it happened in any more."""

    code = 90


_BY_CODE: Mapping[int, type[Error]] = {
    10: ConflictError,
    11: ConflictError,  # the snapshot is older than what is remembered: run it again, as after a conflict
    12: TransactionTimeoutError,
    13: ContextCancelledError,
    14: LockedError,
    20: InvalidTransactionStateError,
    21: InvalidTransactionStateError,  # a write in a transaction that only reads
    30: StoreNotFoundError,
    31: ItemNotFoundError,
    32: ValidationError,  # the store exists with other options
    40: ValidationError,
    41: DimensionMismatchError,
    42: FilterError,
    50: StorageError,
    51: CorruptionError,
    52: DiskFullError,
    53: StorageError,  # the folder cannot be written
    54: DrivesLostError,
    60: StorageError,  # the database was closed
    61: ForkedHandleError,
    62: Error,  # the handle is not known
    63: ContextCancelledError,  # the context is not known, which is what cancelling it leads to
    70: UnsupportedError,
    71: RedisError,
    80: Error,
    90: NativePanicError,
}


def from_code(
    code: int, message: str, retryable: bool | None = None, details: Mapping[str, Any] | None = None
) -> Error:
    """The exception for an error code of the library."""
    return _BY_CODE.get(code, Error)(message, code=code, retryable=retryable, details=details)


class _RaisedByBtreeError(BtreeError):
    """Mixed into an exception that a B-tree call raises, so that it is a BtreeError too."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.args[0], self.code, self.retryable, dict(self.details))


def _rebuild(message: str, code: int, retryable: bool, details: Mapping[str, Any]) -> Error:
    return as_btree_error(from_code(code, message, retryable, details))


def _variant(plain: type[Error]) -> type[Error]:
    if issubclass(BtreeError, plain):
        return BtreeError
    return type(
        plain.__name__, (plain, _RaisedByBtreeError), {"__module__": __name__, "__doc__": plain.__doc__}
    )


_BTREE_VARIANTS: Mapping[type[Error], type[Error]] = {
    plain: _variant(plain) for plain in {*_BY_CODE.values(), TransactionError}
}


def as_btree_error(error: Error) -> Error:
    """The same error as an exception that `except BtreeError` catches as well."""
    variant = _BTREE_VARIANTS.get(type(error))
    if variant is None:
        return error
    message = str(error.args[0]) if error.args else ""
    return variant(message, code=error.code, retryable=error.retryable, details=error.details)


_Function = TypeVar("_Function", bound=Callable[..., Any])


def raises_btree_errors(function: _Function) -> _Function:
    """Marks a B-tree call: its errors are BtreeErrors too."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Error as error:
            raise as_btree_error(error) from error.__cause__

    return cast(_Function, call)
