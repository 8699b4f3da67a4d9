"""Running a function in a transaction, and again when another transaction was faster."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Callable, TypeVar

from ._log import logger
from .context import Context
from .errors import Error, ValidationError
from .transaction import Transaction, TransactionMode, TransactionOptions

if TYPE_CHECKING:
    from .database import Database

__all__ = ["ATTEMPTS", "run"]

_R = TypeVar("_R")

# How often `run` runs a function when nothing else is asked for.
ATTEMPTS = 100
# The longest pause before it does so again, in seconds.
PAUSE_MAX = 0.1


def run(
    db: Database,
    function: Callable[[Transaction], _R],
    *,
    ctx: Context | None = None,
    options: TransactionOptions | None = None,
    attempts: int = ATTEMPTS,
) -> _R:
    """Gives what `function(transaction)` gives, once the transaction is committed.

    An error whose `retryable` is True rolls back and runs the function again, in a new transaction, after a
    random pause that grows with the attempts; so the function must be one that can run again. Any other
    error, and that of the last attempt, is raised. Without `ctx` the transaction has one of its own,
    `transaction.ctx`.
    """
    check_attempts(attempts)
    context = Context() if ctx is None else ctx

    def begin() -> Transaction:
        return db.begin_transaction(context, TransactionMode.ForWriting, options)

    return repeat(begin, function, attempts)


def repeat(
    begin: Callable[[], Transaction], function: Callable[[Transaction], _R], attempts: int = ATTEMPTS
) -> _R:
    """As `run`, in transactions that `begin` makes."""
    for attempt in range(1, attempts + 1):
        try:
            with begin() as transaction:
                return function(transaction)
        except Error as error:
            if not is_worth_another(error, attempt, attempts):
                raise
        time.sleep(backoff(attempt, PAUSE_MAX))
    raise AssertionError("the last attempt raises or returns")


def check_attempts(attempts: int) -> None:
    """Raises ValidationError when a number of attempts is none."""
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise ValidationError(f"attempts must be an int of at least 1, not {attempts!r}")


def is_worth_another(error: Error, attempt: int, attempts: int) -> bool:
    """Whether to run a transaction again after an error of its attempt; says so in the log."""
    if not error.retryable:
        return False
    if attempt == attempts:
        logger.warning("gave up a transaction after %d attempts: %s", attempts, error)
        return False
    logger.debug("running a transaction again after attempt %d: %s", attempt, error)
    return True


def backoff(attempt: int, longest: float) -> float:
    """Seconds to pause after an attempt: random, so that those that met do not meet again."""
    return random.uniform(0, min(longest, 1e-5 * 2 ** min(attempt, 20)))
