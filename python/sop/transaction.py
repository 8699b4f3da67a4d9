"""Transactions: their options, and begin, commit, rollback."""

from __future__ import annotations

import math
import os
import uuid
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from time import perf_counter
from types import TracebackType
from typing import Any, Dict, Iterator, List, Optional, Sequence

from . import _native
from ._folder import MAX_HASH_MOD_VALUE, MIN_HASH_MOD_VALUE, Folder, shared
from ._library import Handle, call, call_flag, call_handle, call_text, native
from ._log import logger
from .context import Context, context_id
from .errors import Error, InvalidTransactionStateError, TransactionError, ValidationError

__all__ = [
    "MAX_HASH_MOD_VALUE",
    "MIN_HASH_MOD_VALUE",
    "DBType",
    "Durability",
    "ErasureCodingConfig",
    "InvalidTransactionStateError",
    "Transaction",
    "TransactionError",
    "TransactionMode",
    "TransactionOptions",
]

NIL = uuid.UUID(int=0)
# Seconds above which a commit is worth a record in the log.
SLOW_COMMIT = 1.0


class TransactionMode(IntEnum):
    """What a transaction may do.

    NoCheck and ForReading read one snapshot; a write in them raises. ForWriting reads one snapshot and
    writes; what it read is checked when it commits.
    """

    NoCheck = 0
    ForWriting = 1
    ForReading = 2


class Durability(IntEnum):
    """When a commit returns. It is whole, and visible to all processes, whichever it is.

    Full: once it is on disk; it survives a power cut. Relaxed: once it is with the operating system; it
    survives the end of every process, kill -9 too. A power cut may take the newest relaxed commits, and what
    was committed after them; never a part of one. `Database.flush` and the next full commit make them
    durable.
    """

    Full = 0
    Relaxed = 1


class DBType(IntEnum):
    """On one machine, or on many that share the folder."""

    Standalone = 0
    Clustered = 1


@dataclass
class ErasureCodingConfig:
    """Erasure coding of a store: over as many drives as there are data and parity shards.

    Any `parity_shards_count` drives may fail, and everything goes on. Each drive is a folder of its own, best
    on a disk of its own; drives are known by what is in them, so they may come back under other paths. With
    `repair_corrupted_shards` a read that meets a bad or missing shard rebuilds it.
    """

    data_shards_count: int
    parity_shards_count: int
    base_folder_paths_across_drives: List[str]
    repair_corrupted_shards: bool = True

    def __hash__(self) -> int:
        drives = tuple(self.base_folder_paths_across_drives)
        return hash((self.data_shards_count, self.parity_shards_count, drives, self.repair_corrupted_shards))


@dataclass
class TransactionOptions:
    """Options of a transaction, and of the database it is on."""

    mode: int = TransactionMode.ForWriting
    # Minutes that a transaction may take until its commit: 15 when 0 or less, at most 60.
    max_time: float = 15
    # Kept with the database for compatibility; 250 to 750,000.
    registry_hash_mod: int = MIN_HASH_MOD_VALUE
    # The folder of the database, then folders that mirror it.
    stores_folders: Optional[List[str]] = None
    # Settings by the name of a store; "" is for all that have none of their own.
    erasure_config: Optional[Dict[str, ErasureCodingConfig]] = None
    db_type: int = DBType.Standalone
    durability: int = Durability.Full

    def names_database(self) -> bool:
        """True when they say more than the mode, the time and the durability of a transaction."""
        return bool(
            self.stores_folders
            or self.erasure_config
            or self.db_type != DBType.Standalone
            or self.registry_hash_mod != MIN_HASH_MOD_VALUE
        )

    def folder(self, stores_folders: Sequence[str] | None = None) -> Folder:
        """The database these options name, in `stores_folders` if they name none."""
        folders = self.stores_folders or stores_folders
        return Folder("", folders, self.db_type, self.erasure_config, self.registry_hash_mod)


class _State:
    """A begun transaction: what all Transaction objects of one transaction share."""

    def __init__(self, handle: Handle, folder: Folder) -> None:
        self.handle = handle
        self.folder = folder
        self.path = folder.path
        # Set by the first commit or rollback that was asked for, whatever became of it.
        self.finished = False


# By transaction id, for those whose id was asked for.
_states: weakref.WeakValueDictionary[uuid.UUID, _State] = weakref.WeakValueDictionary()


class Transaction:
    """A transaction: begin, work, then exactly one commit or rollback.

    As a context manager it begins on entry, commits on exit, and rolls back when the block raises; a commit
    or rollback inside the block is respected. An error of the disk, in any call, ends the transaction.

    Made from `options` it is on the database those name. The form with `id` is another object for a
    transaction that has begun already (`other.transaction_id`).
    """

    # In the object itself once it has begun.
    _state: _State | None = None

    def __init__(
        self,
        ctx: Context,
        options: TransactionOptions | None = None,
        id: uuid.UUID | None = None,
        begun: bool = False,
        *,
        _folder: Folder | None = None,
    ) -> None:
        self.ctx = ctx
        self.options = options
        self._id = id
        if id is not None:
            if not isinstance(id, uuid.UUID):
                raise ValidationError(f"the id must be a UUID, not {type(id).__name__}")
            self._state = _states.get(id)
            return
        if options is None:
            raise TransactionError("a transaction needs options; or use Database.begin_transaction")
        if not isinstance(options, TransactionOptions):
            raise ValidationError(f"the options must be TransactionOptions, not {type(options).__name__}")
        context_id(ctx)
        self._mode = _mode(options.mode)
        self._max_time = _minutes(options.max_time)
        self._durability = durability_number(options.durability)
        self._folder = shared(options.folder()) if _folder is None else _folder

    @property
    def begun(self) -> bool:
        """True once the transaction has begun, also after its end."""
        return self._state is not None

    @property
    def transaction_id(self) -> uuid.UUID:
        """Id of the transaction; all zero before it begins."""
        if self._id is None and self._state is not None:
            self._id = uuid.UUID(call_text(native.sop_handle_uuid, self._state.handle.value))
            _states[self._id] = self._state
        return self._id or NIL

    def __repr__(self) -> str:
        if self._state is None:
            return "<sop.Transaction, not begun>"
        return f"<sop.Transaction on {self._state.path!r}, {'ended' if self._state.finished else 'open'}>"

    def __enter__(self) -> Transaction:
        self.begin()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        state = self._begun()
        if exc_type is not None or state.finished:
            abandon(state)
            return
        try:
            self.commit(self.ctx)
        except BaseException:
            abandon(state)
            raise

    def begin(self) -> None:
        """Takes the snapshot that the transaction reads. Does nothing if it has begun; raises if it ended."""
        if self._state is None and self._id is None:
            # Two threads may begin it at once: the first one counts, the other is rolled back.
            self.__dict__.setdefault("_state", _State(self._new_handle(), self._folder))
        elif self._begun().finished:
            raise InvalidTransactionStateError("the transaction has ended; begin a new one")

    def commit(self, ctx: Context | None = None) -> None:
        """Stores everything that was written, in all stores, or raises and stores nothing."""
        context, handle = self._finish(ctx)
        began = perf_counter()
        if _native.fast is None:
            call(native.sop_transaction_commit, context, handle)
        else:
            _native.fast.commit(context, handle)
        seconds = perf_counter() - began
        if seconds > SLOW_COMMIT:
            logger.warning("a commit on %s took %.1f seconds", self._begun().path, seconds)

    def rollback(self, ctx: Context | None = None) -> None:
        """Forgets everything that was written."""
        call(native.sop_transaction_rollback, *self._finish(ctx))

    def _new_handle(self) -> Handle:
        context = context_id(self.ctx)
        database = self._folder.open(context)  # held: another thread may close it meanwhile
        if _native.fast is not None:
            begin = _native.fast.begin
            return Handle(*begin(context, database.value, self._mode, self._max_time, self._durability))
        handle = call_handle(
            native.sop_transaction_begin, context, database.value, self._mode, self._max_time
        )
        if self._durability:
            call(native.sop_transaction_set_durability, handle.value, self._durability)
        return handle

    def _finish(self, ctx: Context | None) -> tuple[int, int]:
        """Context and handle for the one commit or rollback."""
        state = self._begun()
        context = context_id(self.ctx if ctx is None else ctx)
        state.finished = True
        return context, state.handle.value

    def _begun(self) -> _State:
        if self._state is None:
            raise InvalidTransactionStateError(
                "the transaction has not begun: call begin() or use a with block"
            )
        return self._state


def transaction_handle(trans: Transaction, path: str | None = None) -> Handle:
    """The native handle of a transaction argument; it must be on the database in `path`, if one is given."""
    if not isinstance(trans, Transaction):
        raise ValidationError(f"the transaction must be a sop.Transaction, not {type(trans).__name__}")
    state = trans._begun()
    if path is not None and state.path != path and os.path.realpath(state.path) != os.path.realpath(path):
        raise ValidationError(f"the transaction is on the database in {state.path}, not on the one in {path}")
    return state.handle


def abandon(state: _State) -> None:
    """Rolls back what is still open: the error on its way out is the one to tell."""
    try:
        if call_flag(native.sop_transaction_is_active, state.handle.value):
            state.finished = True
            call(native.sop_transaction_rollback, 0, state.handle.value)
    except Error:
        pass


@contextmanager
def whole(trans: Transaction) -> Iterator[None]:
    """For a block of several calls that write: an error ends the transaction, of which a part was written."""
    try:
        yield
    except BaseException:
        abandon(trans._begun())
        raise


# Looked up: making a member of an enumeration takes longer than to begin a transaction.
_MODES = {mode: mode.value for mode in TransactionMode}
_DURABILITIES = {durability: durability.value for durability in Durability}


def _mode(mode: Any) -> int:
    try:
        return _MODES[mode]
    except (KeyError, TypeError) as error:
        raise ValidationError(f"mode must be a TransactionMode, 0, 1 or 2, not {mode!r}") from error


def durability_number(durability: Any) -> int:
    """The library's number for a durability argument."""
    try:
        return _DURABILITIES[durability]
    except (KeyError, TypeError) as error:
        raise ValidationError(f"durability must be a Durability, 0 or 1, not {durability!r}") from error


def _minutes(max_time: Any) -> float:
    if isinstance(max_time, bool) or not isinstance(max_time, (int, float)):
        raise ValidationError(f"max_time must be a number of minutes, not {max_time!r}")
    try:
        minutes = float(max_time)
    except OverflowError:  # an int beyond every float
        minutes = math.inf
    if not math.isfinite(minutes):
        raise ValidationError("max_time must be a number of minutes, finite and not NaN")
    return minutes
