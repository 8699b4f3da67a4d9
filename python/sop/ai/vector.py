"""Vector stores: nearest neighbours with payloads, in a transaction or with calls that commit alone."""

from __future__ import annotations

import sys
import uuid
from contextlib import nullcontext
from dataclasses import dataclass
from enum import IntEnum
from html import escape
from itertools import islice
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar

from .. import _json, retry
from .._display import ROWS_MAX, Report, shortened, table
from .._folder import Folder
from .._library import (
    Handle,
    call,
    call_count,
    call_handle,
    call_json,
    call_text,
    native,
)
from .._progress import Progress, check, run, steps
from ..btree import fast
from ..context import Context, context_id
from ..errors import Error, ValidationError
from ..transaction import NIL, Transaction, TransactionMode, TransactionOptions, transaction_handle, whole
from ._arguments import RECALL, count_of, encoded, ids_of, payload_rows, query_options
from ._arrays import EmptyMatrix, float_matrix, installed_numpy
from ._calls import VectorCalls

_R = TypeVar("_R")

# Hits of a query that fit into a result without asking how many rows there are.
_WIDE = 1024
# Rows fetched at a time by an iteration: few for those that stop early, more as it goes on.
_BATCH_MIN, _BATCH_MAX = 16, 256
# Minutes that an iteration may take: as long as a transaction can.
_LONGEST = 60
# Queries between two calls of a progress function.
_QUERIES = 100


class UsageMode(IntEnum):
    """What a vector store is mainly used for. Decided when the store is made."""

    BuildOnceQueryMany = 0
    DynamicWithVectorCountTracking = 1
    Dynamic = 2


class Metric(IntEnum):
    """How similarity is measured; a greater score is better. Decided when the store is made."""

    # Of the angle, -1 to 1; 0 when either is the zero vector.
    Cosine = 0
    # The sum of the products.
    Dot = 1
    # The Euclidean distance; the score is its negative.
    L2 = 2


@dataclass
class Item:
    """A vector with its payload. A centroid_id above 0 puts it into that cluster and keeps it there."""

    id: str
    vector: List[float]
    payload: Any = None
    centroid_id: int = 0

    def __repr__(self) -> str:
        fields = {**self.__dict__, "payload": repr(self.payload), "id": repr(self.id)}
        fields["vector"] = shortened(self.vector)
        return f"Item({', '.join(f'{name}={value}' for name, value in fields.items())})"


@dataclass
class Hit:
    """A found vector: its score by the store's metric, the greater the better, and its payload."""

    id: str
    score: float
    payload: Any


class Hits(List[Hit]):
    """What a query answers: a list of hits that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        rows = [(hit.id, hit.score, hit.payload) for hit in self]
        return table(f"{len(self)} hits", ("id", "score", "payload"), rows)


@dataclass
class CentroidStats:
    """One cluster: how many vectors it holds, and whether a caller named it."""

    id: int
    count: int
    explicit: bool


@dataclass
class VectorStats(Report):
    """How the vectors of a store are spread over its clusters."""

    count: int
    dimension: int
    usage_mode: UsageMode
    # Vectors in the largest cluster, divided by the mean over the clusters.
    skew: float
    # The clusters, by id. 0 holds new vectors that are in none yet; queries find them all the same.
    centroids: List[CentroidStats]

    @property
    def fresh(self) -> int:
        """Vectors that are in no cluster yet."""
        return sum(row.count for row in self.centroids if row.id == 0 and not row.explicit)


class VectorStore(VectorCalls):
    """A vector store. The first vector fixes the dimension. Opened by a database, never made directly."""

    def __init__(
        self, handle: Handle, folder: Folder, options: Mapping[str, Any], trans: Transaction | None
    ) -> None:
        self._handle = handle
        self._folder = folder
        self._options = options
        self._transaction = trans

    @classmethod
    def _open(
        cls,
        ctx: Context | None,
        folder: Folder,
        name: str,
        usage_mode: int | None,
        metric: Metric | None = None,
        trans: Transaction | None = None,
    ) -> VectorStore:
        options: Dict[str, Any] = {"name": _json.text(name, "the name of a vector store")}
        if usage_mode is not None:
            options["usage_mode"] = usage_mode
        if metric is not None:
            options["metric"] = _metric_value(metric)
        return cls._with_options(ctx, folder, options, trans)

    @classmethod
    def _with_options(
        cls, ctx: Context | None, folder: Folder, options: Mapping[str, Any], trans: Transaction | None
    ) -> VectorStore:
        context = context_id(ctx)
        owner = folder.open(context) if trans is None else transaction_handle(trans, folder.path)
        text = _json.encode(options, "the vector store options")
        handle = call_handle(native.sop_vector_open, context, owner.value, text, len(text))
        return cls(handle, folder, options, trans)

    def __reduce__(self) -> Tuple[Any, ...]:
        """Pickled by the folder and options of its database: where it is unpickled it is opened anew."""
        if self._transaction is not None:
            raise TypeError("a store inside a transaction cannot be pickled: a transaction is of one process")
        return VectorStore._with_options, (None, self._folder, self._options, None)

    def __repr__(self) -> str:
        inside = "" if self._transaction is None else " in a transaction"
        return f"<sop.ai.VectorStore {self._options['name']!r} of {self._folder.path!r}{inside}>"

    def _repr_html_(self) -> str:
        if self._transaction is not None:
            return escape(repr(self))  # what it looked at would count as read
        try:
            title = f"{self._options['name']}: {len(self)} vectors of {self.dimension()} numbers"
            items = islice(self.items(Context()), ROWS_MAX)
            rows = [(item.id, shortened(item.vector), item.payload) for item in items]
        except Error as error:
            return escape(f"{self!r}: {error}")
        return table(title, ("id", "vector", "payload"), rows)

    def with_transaction(self, trans: Transaction) -> VectorStore:
        """The same store inside a transaction."""
        transaction_handle(trans, self._folder.path)  # None would be a store that commits by itself
        return VectorStore._with_options(None, self._folder, self._options, trans)

    @property
    def id(self) -> uuid.UUID:
        """Id of this opened store."""
        return uuid.UUID(call_text(native.sop_handle_uuid, self._handle.value))

    @property
    def transaction_id(self) -> uuid.UUID:
        """Id of its transaction, all zero without one."""
        return NIL if self._transaction is None else self._transaction.transaction_id

    # Writing

    def upsert(self, ctx: Context, item: Item) -> None:
        """Stores a vector with its payload, replacing what the id had."""
        self._upsert_rows(ctx, [_row(item)])

    def upsert_batch(self, ctx: Context, items: Iterable[Item], *, progress: Progress | None = None) -> None:
        """Stores many; all or none. Of an id that comes twice the last one counts."""
        batch = _json.as_list(items, "the vectors")
        for item in batch:
            _check_item(item)
        self._write_in_steps(
            ctx, len(batch), progress, lambda store, part: store._upsert_some(ctx, batch[part])
        )

    def upsert_arrays(
        self,
        ctx: Context,
        ids: Sequence[str],
        vectors: Any,
        payloads: Any = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Stores many; all or none. `vectors` is n x d: a NumPy array, a buffer of two dimensions, or lists.

        float32 in C order goes in by pointer, without a copy. `payloads` is a list of n dicts, or a dict of
        columns of n values each. `progress`, here and in the other calls, is told the rows done and to do;
        what it raises stops the call, and nothing is stored: a transaction in which a part was ends.
        """
        if isinstance(ids, (set, frozenset)):
            raise ValidationError("the ids must be a list: those of a set have no order, vectors have")
        names = ids_of(ids)
        rows = payload_rows(payloads, len(names))
        plainly = fast if progress is None else None
        if plainly is not None and plainly.vector_upsert_arrays(*self._of(ctx), names, vectors, rows):
            return
        matrix = float_matrix(vectors, "the vectors")
        if matrix.rows != len(names):
            raise ValidationError(f"{len(names)} ids for {matrix.rows} vectors")

        def upsert(store: VectorStore, part: slice) -> None:
            some = None if rows is None else rows[part]
            store._upsert_matrix(ctx, names[part], matrix.part(part), some)

        self._write_in_steps(ctx, len(names), progress, upsert)

    def delete(self, ctx: Context, id: str | Iterable[str], *, progress: Progress | None = None) -> None:
        """Removes the vector of an id, or those of many; all or none. An unknown id is no error."""
        names = [id] if isinstance(id, str) else ids_of(id)
        self._write_in_steps(ctx, len(names), progress, lambda store, part: store._delete(ctx, names[part]))

    def optimize(self, ctx: Context, progress: Progress | None = None) -> None:
        """Clusters anew. What the transaction has written so far is saved; it and the store stay usable.

        `progress` is called with the work done and to do, about ten times a second; what it raises stops the
        call, as Ctrl-C and `ctx.cancel()` do. A call that is stopped changes nothing.
        """
        run(call, native.sop_vector_optimize, progress, *self._of(ctx))

    # Reading

    def get(self, ctx: Context | None, id: str) -> Item:
        """The vector and payload of an id, or ItemNotFoundError."""
        name = _json.encode_text(id, "the id of a vector")
        return _item(call_json(native.sop_vector_get, *self._of(ctx), name, len(name)))

    def get_many(
        self, ctx: Context, ids: Iterable[str], *, progress: Progress | None = None
    ) -> List[Optional[Item]]:
        """The items of ids, in their order, None for one that is not there. One snapshot."""
        names = ids_of(ids)
        if progress is None:
            return self._get_some(ctx, names)

        def get(store: VectorStore) -> List[Optional[Item]]:
            parts = steps(len(names), progress)
            return [item for part in parts for item in store._get_some(ctx, names[part])]

        return self._on_one_snapshot(ctx, get)

    def get_arrays(
        self, ctx: Context, ids: Iterable[str] | None = None, *, progress: Progress | None = None
    ) -> Tuple[List[str], Any, List[Any]]:
        """(ids, vectors, payloads) of those ids that are there, in their order; of all, by id, for None.

        They are what `upsert_arrays` takes. `vectors` is a float32 array of NumPy, n x d; where NumPy is not
        installed, a memoryview of that shape. One snapshot.
        """
        names = None if ids is None else ids_of(ids)
        check(progress)
        return self._on_one_snapshot(ctx, lambda store: store._get_arrays(ctx, names, progress))

    def ids(self, ctx: Context, start: str | None = None, stop: str | None = None) -> Iterator[str]:
        """Iterates over the ids with start <= id < stop in order. None is no bound.

        Lazy: ids come in batches, all of one snapshot. Inside a transaction each batch sees what the
        transaction wrote by then. Outside, an iteration may take an hour.
        """
        for _, names in self._walk(ctx, start, stop):
            yield from names

    def items(self, ctx: Context, start: str | None = None, stop: str | None = None) -> Iterator[Item]:
        """Iterates over the items in order of their ids, as `ids` does."""
        for store, names in self._walk(ctx, start, stop):
            yield from (item for item in store._get_some(ctx, names) if item is not None)

    def dimension(self, ctx: Context | None = None) -> int:
        """Numbers per vector; 0 before the first one."""
        return call_count(native.sop_vector_dimension, *self._of(ctx))

    def count(self, ctx: Context | None = None) -> int:
        """How many vectors there are. As for a B-tree, not checked at commit."""
        return call_count(native.sop_vector_count, *self._of(ctx))

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True  # a store is there, empty or not; asking for its length would read

    def __getitem__(self, id: str) -> Item:
        return self.get(None, id)

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and self._get_some(None, [id])[0] is not None

    def __iter__(self) -> Iterator[str]:
        return self.ids(Context())

    def query(
        self,
        ctx: Context,
        vector: Sequence[float],
        k: int = 10,
        filter: Mapping[str, Any] | None = None,
        *,
        target_recall: float = RECALL,
        nprobe: int | None = None,
        exact: bool = False,
        centroid_ids: Sequence[int] | None = None,
    ) -> Hits:
        """The k vectors of the greatest score, the best first.

        `filter` says which payloads: `{"field": value}`, comparisons (`{"price": {"$gte": 10, "$lt": 20}}`,
        also $gt, $lte, $ne, $in, $nin, $exists), `$and`, `$or`, `$not`. k rows that match give k hits.
        `target_recall` is the share of the true k best that is found on average; `nprobe` sets the number of
        clusters to look into instead, `exact` scores every vector. `centroid_ids` looks at the vectors that
        were given one of these.
        """
        options = query_options(filter, target_recall, nprobe, exact, centroid_ids)
        if fast is not None:
            found = fast.vector_query(*self._of(ctx), vector, count_of(k), encoded(options))
            if found is not None:
                return Hits(Hit(*hit) for hit in found)
        options["vector"] = _json.as_list(vector, "a vector")
        options["k"] = count_of(k)
        text = _json.encode(options, "the query")
        hits = call_json(native.sop_vector_query, *self._of(ctx), text, len(text))
        return Hits(Hit(hit["ID"], hit["Score"], hit["Payload"]) for hit in hits)

    def query_arrays(
        self,
        ctx: Context,
        queries: Any,
        k: int,
        filter: Mapping[str, Any] | None = None,
        nprobe: int | None = None,
        threads: int = 1,
        *,
        target_recall: float = RECALL,
        exact: bool = False,
        centroid_ids: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> Tuple[List[List[str]], Any]:
        """Answers many queries at once: (ids, scores), for each query a list of up to k, the best first.

        `queries` is as `vectors` of `upsert_arrays`, the rest as in `query`. When it is NumPy's, scores is a
        float32 array n x k, NaN where a query has fewer than k hits. One snapshot.
        """
        width = self._width(ctx, k)
        options = query_options(filter, target_recall, nprobe, exact, centroid_ids)
        if threads != 1:
            options["threads"] = threads
        numpy: Any = sys.modules.get("numpy")
        is_plain = numpy is not None and type(queries) is numpy.ndarray and queries.ndim == 2
        if progress is None and fast is not None and is_plain:
            scores = numpy.empty((len(queries), width), numpy.float32)
            ids = fast.vector_query_arrays(*self._of(ctx), queries, width, encoded(options), scores)
            if ids is not None:
                return ids, scores
        matrix = float_matrix(queries, "the queries")
        found = EmptyMatrix(matrix.rows, width, sys.modules["numpy"] if matrix.is_numpy else None)

        def ask(store: VectorStore) -> List[List[str]]:
            hits: List[List[str]] = []
            for part in steps(matrix.rows, progress, _QUERIES):
                place = found.address_of(part.start)
                hits += store._query_matrix(ctx, matrix.part(part), width, options, place)
            return hits

        hits = ask(self) if progress is None else self._on_one_snapshot(ctx, ask)
        if matrix.is_numpy:
            return hits, found.matrix
        return hits, [found.row(row)[: len(ids)] for row, ids in enumerate(hits)]

    def _width(self, ctx: Context, k: int) -> int:
        """Places for the hits of a query: there cannot be more hits than rows, so a huge k takes no more."""
        width = max(count_of(k), 0)
        return width if width <= _WIDE else min(width, max(self.count(ctx), _WIDE))

    def stats(self, ctx: Context) -> VectorStats:
        """Vectors per cluster, and how uneven the clusters are."""
        report = call_json(native.sop_vector_stats, *self._of(ctx))
        return VectorStats(
            count=report["count"],
            dimension=report["dimension"],
            usage_mode=UsageMode(report["usage_mode"]),
            skew=report["skew"],
            centroids=[
                CentroidStats(row["id"], row["count"], row["explicit"]) for row in report["centroids"]
            ],
        )

    def centroid_counts(self, ctx: Context, explicit: bool = False) -> Dict[int, int]:
        """Vectors per cluster of the store's own, by number; with `explicit`, by the given centroid_id."""
        return {row.id: row.count for row in self.stats(ctx).centroids if row.explicit == explicit}

    def _on_one_snapshot(self, ctx: Context, work: Callable[[VectorStore], _R]) -> _R:
        """Runs calls that read, outside a transaction in one of their own."""
        if self._transaction is not None:
            return work(self)
        with self._begin(ctx, TransactionMode.ForReading) as transaction:
            return work(self.with_transaction(transaction))

    def _write_in_steps(
        self, ctx: Context, total: int, progress: Progress | None, write: Callable[[VectorStore, slice], None]
    ) -> None:
        """Writes the parts of so many rows; all or none."""

        def write_all(store: VectorStore) -> None:
            for part in steps(total, progress):
                write(store, part)

        if progress is None:
            write_all(self)
        elif self._transaction is not None:
            with whole(self._transaction):
                write_all(self)
        else:
            retry.repeat(
                lambda: self._begin(ctx, TransactionMode.ForWriting),
                lambda transaction: write_all(self.with_transaction(transaction)),
            )

    def _begin(self, ctx: Context, mode: int) -> Transaction:
        return Transaction(ctx, TransactionOptions(mode, max_time=_LONGEST), _folder=self._folder)

    def _walk(
        self, ctx: Context, start: str | None, stop: str | None
    ) -> Iterator[Tuple[VectorStore, List[str]]]:
        """Batches of ids, with the store on whose snapshot they are."""
        query: Dict[str, Any] = {"limit": _BATCH_MIN}
        for name, bound in (("start", start), ("stop", stop)):
            if bound is not None:
                query[name] = _json.text(bound, f"the {name} of a range of ids")
        own = None if self._transaction is not None else self._begin(ctx, TransactionMode.ForReading)
        with nullcontext() if own is None else own:
            store = self if own is None else self.with_transaction(own)
            while True:
                batch = store._ids(ctx, query)
                yield store, batch["ids"]
                if batch["resume"] is None:
                    return
                query["resume"] = batch["resume"]
                query["limit"] = min(2 * query["limit"], _BATCH_MAX)

    def _get_some(self, ctx: Context | None, ids: Sequence[str]) -> List[Optional[Item]]:
        return [None if row is None else _item(row) for row in self._rows(ctx, ids)]

    def _get_arrays(
        self, ctx: Context, ids: Sequence[str] | None, progress: Progress | None
    ) -> Tuple[List[str], Any, List[Any]]:
        names = list(self.ids(ctx)) if ids is None else ids
        vectors = EmptyMatrix(len(names), self.dimension(ctx), installed_numpy())
        rows: List[Dict[str, Any]] = []
        for part in steps(len(names), progress):
            rows += self._found(ctx, names[part], vectors.columns, vectors.address_of(len(rows)))
        return [row["ID"] for row in rows], vectors.first(len(rows)), [row["Payload"] for row in rows]

    def _upsert_some(self, ctx: Context, items: Sequence[Item]) -> None:
        if len(items) > 1 and not any(item.centroid_id for item in items):
            vectors = float_matrix([_json.as_list(item.vector, "a vector") for item in items], "the vectors")
            self._upsert_matrix(ctx, [item.id for item in items], vectors, [item.payload for item in items])
        else:
            self._upsert_rows(ctx, [_row(item) for item in items])


def usage_mode_value(mode: Any) -> int:
    """The number of a usage mode argument."""
    try:
        return UsageMode(mode).value
    except ValueError as error:
        raise ValidationError(f"usage_mode must be a UsageMode, not {mode!r}") from error


def _check_item(item: Any) -> None:
    if not isinstance(item, Item):
        raise ValidationError(f"expected a sop.ai.Item, not {type(item).__name__}")


def _item(row: Mapping[str, Any]) -> Item:
    return Item(row["ID"], row["Vector"], row["Payload"], row["CentroidID"])


def _row(item: Item) -> Dict[str, Any]:
    _check_item(item)
    vector = _json.as_list(item.vector, "a vector")
    return {"id": item.id, "vector": vector, "payload": item.payload, "centroid_id": item.centroid_id}


def _metric_value(metric: Any) -> int:
    """The number of a metric argument."""
    try:
        return Metric(metric).value
    except ValueError as error:
        raise ValidationError(f"metric must be a sop.ai.Metric, not {metric!r}") from error
