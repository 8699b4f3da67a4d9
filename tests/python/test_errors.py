"""Exceptions: what catches what, and that they survive pickling."""

from __future__ import annotations

import pickle

import pytest

import sop
from sop import errors
from sop.errors import as_btree_error, from_code


@pytest.mark.parametrize(
    ("code", "expected", "retryable"),
    [
        (10, sop.ConflictError, True),
        (11, sop.ConflictError, True),
        (12, sop.TransactionTimeoutError, True),
        (13, sop.ContextCancelledError, False),
        (14, sop.LockedError, True),
        (20, sop.InvalidTransactionStateError, False),
        (30, sop.StoreNotFoundError, False),
        (31, sop.ItemNotFoundError, False),
        (40, sop.ValidationError, False),
        (41, sop.DimensionMismatchError, False),
        (42, sop.FilterError, False),
        (50, sop.StorageError, False),
        (51, sop.CorruptionError, False),
        (52, sop.DiskFullError, False),
        (54, sop.DrivesLostError, False),
        (61, sop.ForkedHandleError, False),
        (70, sop.UnsupportedError, False),
        (71, sop.RedisError, False),
        (80, sop.Error, False),
        (90, sop.NativePanicError, False),
        (12345, sop.Error, False),
    ],
)
def test_codes_have_their_classes(code: int, expected: type[sop.Error], retryable: bool) -> None:
    error = from_code(code, "text")
    assert type(error) is expected
    assert (error.code, error.retryable, dict(error.details), str(error)) == (code, retryable, {}, "text")


def test_the_tree_of_classes() -> None:
    for transactional in (
        sop.ConflictError,
        sop.InvalidTransactionStateError,
        sop.TransactionTimeoutError,
        sop.ContextCancelledError,
        sop.BtreeError,
    ):
        assert issubclass(transactional, sop.TransactionError)
    assert issubclass(sop.DimensionMismatchError, sop.ValidationError)
    assert issubclass(sop.FilterError, sop.ValidationError)
    for storage in (sop.CorruptionError, sop.DiskFullError, sop.LockedError):
        assert issubclass(storage, sop.StorageError)
    assert issubclass(sop.Error, Exception)
    assert not issubclass(sop.StoreNotFoundError, sop.TransactionError)


@pytest.mark.parametrize("code", sorted(errors._BY_CODE))
def test_a_btree_call_raises_what_both_names_catch(code: int) -> None:
    plain = from_code(code, "text", details={"store": "s"})
    error = as_btree_error(plain)
    assert isinstance(error, type(plain))
    assert isinstance(error, sop.BtreeError)
    assert isinstance(error, sop.TransactionError)
    assert (error.code, error.retryable, error.details) == (plain.code, plain.retryable, plain.details)
    expected = "BtreeError" if type(plain) is sop.Error else type(plain).__name__
    assert type(error).__name__ == expected
    assert as_btree_error(error) is error


@pytest.mark.parametrize("code", sorted(errors._BY_CODE))
@pytest.mark.parametrize("convert", [lambda error: error, as_btree_error])
def test_errors_can_be_pickled(code: int, convert) -> None:
    error = convert(from_code(code, "text", details={"store": "s"}))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.code, copy.retryable, copy.details) == (
        "text",
        code,
        error.retryable,
        {"store": "s"},
    )
