"""A database: one folder with B-trees, vector stores and model stores."""

from __future__ import annotations

import os
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any, List, Mapping, Sequence, TypeVar

from . import _json, btree, maintenance
from ._display import table
from ._folder import Folder
from ._library import call, native
from ._native import MapFunctions
from ._progress import Progress
from ._pure import PureMap, open_pure
from .btree import fast
from .context import Context, context_id
from .errors import Error, StorageError, ValidationError, raises_btree_errors
from .map import Map, Origin
from .transaction import (
    DBType,
    Durability,
    ErasureCodingConfig,
    Transaction,
    TransactionMode,
    TransactionOptions,
    durability_number,
    transaction_handle,
)

if TYPE_CHECKING:
    from .ai.model import ModelStore
    from .ai.vector import Metric, VectorStore

_Self = TypeVar("_Self", bound="Database")


class Database:
    """A database. Its options are checked here; the folder is opened, and made if need be, on first use.

    All databases on one folder in a process share what is open. As a context manager it closes on exit.
    Pickled by path and options, it is opened anew where it is unpickled.

    `memory_limit`, in bytes, bounds caches and commits that wait for a checkpoint (not the keys of an open
    transaction); the first database that opens a folder in a process decides. None: up to 256 MiB of
    cache, and commits of up to 80 MiB.

    `read_only` opens a database that is there, as it was opened last (whatever db_type says; Redis is not
    needed), and writes nothing to its folders, while others write as they like: a medium that cannot be
    written, or a look at what is in production. Writes raise StorageError. Nothing tells the writers of
    a reader, so a transaction of a reader that outlives a checkpoint or two of theirs may fail with a
    ConflictError: begin it again.
    """

    def __init__(
        self,
        ctx: Context,
        storage_path: str | os.PathLike[str] = "",
        db_type: DBType = DBType.Standalone,
        erasure_config: Mapping[str, ErasureCodingConfig] | None = None,
        stores_folders: Sequence[str | os.PathLike[str]] | None = None,
        *,
        memory_limit: int | None = None,
        read_only: bool = False,
    ) -> None:
        context_id(ctx)
        self.storage_path = os.fspath(storage_path) if isinstance(storage_path, os.PathLike) else storage_path
        self._folder = Folder(
            self.storage_path,
            stores_folders,
            db_type,
            erasure_config,
            memory_limit=memory_limit,
            read_only=read_only,
        )

    @classmethod
    def as_found(
        cls: type[_Self],
        ctx: Context,
        storage_path: str | os.PathLike[str],
        mirrors: Sequence[str | os.PathLike[str]] = (),
        drives: Sequence[str | os.PathLike[str]] = (),
    ) -> _Self:
        """The database in a folder, opened as it was opened last: Standalone or Clustered.

        For tools. Clustered, it needs no Redis server: without one it only takes longer. `mirrors` are the
        further folders of stores_folders; `drives` those of erasure coding, in any order: what is in them
        says which is which, and an empty one takes the place of one that is missing.
        """
        database = cls(ctx, storage_path)
        folders = [database.storage_path, *mirrors]
        database._folder = Folder(database.storage_path, folders, as_found=True, drives=drives)
        return database

    def __repr__(self) -> str:
        kind = "read only" if self._folder.read_only else DBType(self._folder.db_type).name
        return f"<sop.{type(self).__name__} {self._folder.path!r}, {kind}>"

    def _repr_html_(self) -> str:
        try:
            stores = self.stores()
        except Error as error:
            return escape(f"{self!r}: {error}")
        rows = [(store.kind, store.name, store.items) for store in stores]
        return table(self._folder.path, ("kind", "name", "items"), rows)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self, ctx: Context | None = None) -> None:
        """Closes the folder in this process: transactions open on it fail. The next use opens it anew.

        Where another Database of this process uses the same folder, it stays open until that one closes too.
        """
        self._folder.close(context_id(ctx))

    def begin_transaction(
        self,
        ctx: Context,
        mode: int = TransactionMode.ForWriting,
        options: TransactionOptions | None = None,
    ) -> Transaction:
        """Begins a transaction. Folders and erasure_config in the options must be those of this database."""
        transaction = self._new_transaction(ctx, mode, options)
        transaction.begin()
        return transaction

    def _new_transaction(
        self,
        ctx: Context,
        mode: int = TransactionMode.ForWriting,
        options: TransactionOptions | None = None,
    ) -> Transaction:
        """As `begin_transaction`, of one that a `with` block begins, or its `begin`."""
        if options is None:
            options = TransactionOptions(mode)
        elif not isinstance(options, TransactionOptions):
            raise ValidationError(f"the options must be TransactionOptions, not {type(options).__name__}")
        elif options.names_database() and not self._folder.covers(options.folder(self._folder.folders)):
            raise ValidationError(
                "stores_folders, erasure_config and db_type of the transaction options are not those "
                "of this database: leave them out, or give them to Database"
            )
        return Transaction(ctx, options, _folder=self._folder)

    def new_btree(
        self,
        ctx: Context,
        name: str,
        trans: Transaction,
        options: btree.BtreeOptions | None = None,
        index_spec: btree.IndexSpecification | None = None,
    ) -> btree.Btree[Any, Any]:
        """`Btree.new` under `name`, with default options if none are given."""
        transaction_handle(trans, self._folder.path)
        named = btree.BtreeOptions(name) if options is None else options
        if named.name != name:
            raise ValidationError(f"the options are for a B-tree called {named.name!r}, not {name!r}")
        return btree.Btree.new(ctx, named, trans, index_spec)

    def open_btree(self, ctx: Context, name: str, trans: Transaction) -> btree.Btree[Any, Any]:
        """`Btree.open`."""
        transaction_handle(trans, self._folder.path)
        return btree.Btree.open(ctx, name, trans)

    @raises_btree_errors
    def open_map(
        self,
        ctx: Context,
        name: str,
        options: btree.BtreeOptions | None = None,
        index_spec: btree.IndexSpecification | None = None,
        durability: int = Durability.Full,
    ) -> Map[Any, Any]:
        """The unique B-tree `name` as a `Map`: the fastest calls, each a transaction of its own.

        It is made when there is none. Without options and index_spec an existing one is opened as it is.
        `durability` is that of the map's own transactions.
        """
        commits = durability_number(durability)
        text = _json.encode_text(name, "the name of a B-tree")
        if options is None and index_spec is not None:
            options = btree.BtreeOptions(name, is_unique=True)
        if options is not None and options.name != name:
            raise ValidationError(f"the options are for a B-tree called {options.name!r}, not {name!r}")
        options_text = None if options is None else btree.options_text(options, index_spec)
        if fast is None:
            return self._pure_map(ctx, name, options, index_spec, commits)
        context = context_id(ctx)
        functions = fast.open_map(context, self._folder.open(context).value, text, options_text, commits)

        def within(trans: Transaction) -> MapFunctions:
            handle = transaction_handle(trans, self._folder.path)
            return MapFunctions(*functions[-1](context_id(trans.ctx), handle.value))

        return Map(ctx, MapFunctions(*functions), within, Origin(self, name, commits))

    def _pure_map(
        self,
        ctx: Context,
        name: str,
        options: btree.BtreeOptions | None,
        index_spec: btree.IndexSpecification | None,
        durability: int,
    ) -> Map[Any, Any]:
        opened = self._folder.open(context_id(ctx))

        def begin(writing: bool) -> Transaction:
            if self._folder.open(context_id(ctx)) is not opened:
                raise StorageError(f"the database {self._folder.path} was closed; open it again", code=60)
            mode = TransactionMode.ForWriting if writing else TransactionMode.ForReading
            return Transaction(
                ctx, TransactionOptions(mode=mode, durability=durability), _folder=self._folder
            )

        def within(trans: Transaction) -> MapFunctions:
            transaction_handle(trans, self._folder.path)
            return PureMap(trans.ctx, name, begin, trans).functions()

        open_pure(ctx, name, options, index_spec, begin)
        return Map(ctx, PureMap(ctx, name, begin).functions(), within, Origin(self, name, durability))

    def open_vector_store(
        self, ctx: Context, trans: Transaction, name: str, metric: Metric | None = None
    ) -> VectorStore:
        """The vector store `name` inside a transaction; `metric` as in `VectorDatabase.open`."""
        from .ai.vector import VectorStore

        transaction_handle(trans, self._folder.path)
        return VectorStore._open(ctx, self._folder, name, self._usage_mode(), metric, trans)

    def open_model_store(
        self, ctx: Context, trans: Transaction | str | None = None, name: str | None = None
    ) -> ModelStore:
        """The model store `name`, inside a transaction; given only a name, its calls commit by themselves."""
        from .ai.model import ModelStore

        if isinstance(trans, str) and name is None:
            trans, name = None, trans
        if trans is None:
            return ModelStore._open(ctx, self._folder, name)
        if isinstance(trans, str):
            raise ValidationError("open_model_store takes (ctx, name) or (ctx, transaction, name)")
        return ModelStore._open(ctx, self._folder, name, trans)

    def flush(self, ctx: Context | None = None) -> None:
        """Makes durable what any process committed with Durability.Relaxed before this call."""
        context = context_id(ctx)
        call(native.sop_database_flush, context, self._folder.open(context).value)

    # Looking after it. None of these makes a database: where there is none, they raise ValidationError.

    def verify(
        self, ctx: Context | None = None, progress: Progress | None = None
    ) -> maintenance.Verification:
        """Checks all that is stored, changing nothing, and lists all damage; others may go on meanwhile.

        `progress` is called with the bytes done and to do, about ten times a second; what it raises stops
        the call, as Ctrl-C and `ctx.cancel()` do. So it is in `backup` and `compact`.
        """
        return maintenance.verify(self._folder, ctx, progress)

    def info(self, ctx: Context | None = None) -> maintenance.DatabaseInfo:
        """Size on disk, the newest transaction, garbage, and how many processes have it open."""
        return maintenance.info(self._folder, ctx)

    def stores(self, ctx: Context | None = None) -> List[maintenance.StoreInfo]:
        """The stores in it, by kind and name."""
        return maintenance.stores(self._folder, ctx)

    def backup(
        self,
        ctx: Context | None,
        target: str | os.PathLike[str],
        progress: Progress | None = None,
        *,
        verify: bool = True,
    ) -> maintenance.Backup:
        """Copies the newest committed state to a folder that is missing or empty, while others go on.

        The copy is durable and a database of its own. Of a backup that fails or is stopped an empty folder
        is left; one whose process was killed is refused when it is opened. `verify` reads the copy back
        first.
        """
        return maintenance.backup(self._folder, ctx, target, progress, verify)

    def compact(self, ctx: Context | None = None, progress: Progress | None = None) -> maintenance.Compaction:
        """Removes garbage from files that are mostly garbage; others may go on meanwhile.

        What open transactions still read is removed by a later checkpoint.
        """
        return maintenance.compact(self._folder, ctx, progress)

    # With mirrored folders or erasure coding (libjsondb/docs/drives.md); without: nothing to do.

    def status(self, ctx: Context | None = None) -> maintenance.RedundancyStatus:
        """Which copies and drives are there, and how much more may be lost. Looks at names only."""
        return maintenance.status(self._folder, ctx)

    def scrub(self, ctx: Context | None = None, progress: Progress | None = None) -> maintenance.Scrub:
        """Reads every shard and every copy, and lists what is damaged or missing; changes nothing."""
        return maintenance.scrub(self._folder, ctx, progress)

    def repair(
        self,
        ctx: Context | None = None,
        progress: Progress | None = None,
        *,
        missing_only: bool = False,
    ) -> maintenance.Repair:
        """Rebuilds what is missing or damaged on drives and in copies, while others go on.

        It can be stopped and run again. With `missing_only` shards that are there are not read: quicker,
        after a drive was replaced.
        """
        return maintenance.repair(self._folder, ctx, progress, missing_only)

    def reinstate(
        self,
        ctx: Context | None = None,
        *,
        lost: Sequence[int] = (),
        progress: Progress | None = None,
    ) -> maintenance.RedundancyStatus:
        """Brings copies that are stale or were replaced up to date, and back among those that count.

        `lost` names copies that will not come back, by their index in `status`: without them the others may
        be too few to go on. Commits that only those hold are given up. Gives the new status.
        """
        return maintenance.reinstate(self._folder, ctx, lost, progress)

    def _usage_mode(self) -> int | None:
        """Usage mode of the vector stores opened here; None is the store's own, or the default one."""
        return None
