"""Vector stores: nearest neighbours with payloads, in a transaction or with calls that commit alone."""

from __future__ import annotations

import ctypes
import json
import operator
import sys
import uuid
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from .. import _json, maintenance
from .._display import Report, table
from .._folder import Folder
from .._library import (
    Handle,
    Opened,
    call,
    call_count,
    call_handle,
    call_json,
    call_text,
    native,
    take_text,
)
from ..btree import fast
from ..context import Context, context_id
from ..errors import ValidationError
from ..transaction import NIL, Transaction, TransactionOptions, transaction_handle
from ._arrays import FloatMatrix, float_matrix

# Hits of a query that fit into a result without asking how many rows there are.
_WIDE = 1024
# Rows that are stored between two calls of a progress function.
_STEP = 1000
# The share of the true hits that a query finds on average, if nothing else is asked for.
_RECALL = 0.95


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


class VectorStore(Opened):
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
        self._upsert(ctx, [item])

    def upsert_batch(self, ctx: Context, items: Iterable[Item]) -> None:
        """Stores many; all or none. Of an id that comes twice the last one counts."""
        batch = _json.as_list(items, "the vectors")
        for item in batch:
            _check_item(item)
        if len(batch) > 1 and not any(item.centroid_id for item in batch):
            vectors = float_matrix([_json.as_list(item.vector, "a vector") for item in batch], "the vectors")
            self._upsert_matrix(ctx, [item.id for item in batch], vectors, [item.payload for item in batch])
        else:
            self._upsert(ctx, batch)

    def upsert_arrays(
        self,
        ctx: Context,
        ids: Sequence[str],
        vectors: Any,
        payloads: Any = None,
        *,
        progress: maintenance.Progress | None = None,
    ) -> None:
        """Stores many; all or none. `vectors` is n x d: a NumPy array, a buffer of two dimensions, or lists.

        float32 in C order goes in by pointer, without a copy. `payloads` is a list of n dicts, or a dict of
        columns of n values each. `progress` is called with the rows done and to do; what it raises stops the
        call, and nothing is stored.
        """
        if isinstance(ids, (set, frozenset)):
            raise ValidationError("the ids must be a list: those of a set have no order, vectors have")
        names = _ids(ids)
        rows = _payload_rows(payloads, len(names))
        if progress is not None:
            self._upsert_in_steps(ctx, names, float_matrix(vectors, "the vectors"), rows, progress)
            return
        if fast is not None and fast.vector_upsert_arrays(*self._of(ctx), names, vectors, rows):
            return
        self._upsert_matrix(ctx, names, float_matrix(vectors, "the vectors"), rows)

    def delete(self, ctx: Context, id: str | Sequence[str]) -> None:
        """Removes the vector of an id, or those of a list of ids. An unknown id is no error."""
        text = _json.encode([id] if isinstance(id, str) else _ids(id), "the ids")
        call(native.sop_vector_delete, *self._of(ctx), text, len(text))

    def optimize(self, ctx: Context, progress: maintenance.Progress | None = None) -> None:
        """Clusters anew. What the transaction has written so far is saved; it and the store stay usable.

        `progress` is called with the work done and to do, about ten times a second; what it raises stops the
        call, as Ctrl-C and `ctx.cancel()` do. A call that is stopped changes nothing.
        """
        maintenance.run(call, native.sop_vector_optimize, progress, *self._of(ctx))

    # Reading

    def get(self, ctx: Context, id: str) -> Item:
        """The vector and payload of an id, or ItemNotFoundError."""
        name = _json.encode_text(id, "the id of a vector")
        row = call_json(native.sop_vector_get, *self._of(ctx), name, len(name))
        return Item(row["ID"], row["Vector"], row["Payload"], row["CentroidID"])

    def count(self, ctx: Context | None = None) -> int:
        """How many vectors there are. As for a B-tree, not checked at commit."""
        return call_count(native.sop_vector_count, *self._of(ctx))

    def query(
        self,
        ctx: Context,
        vector: Sequence[float],
        k: int = 10,
        filter: Mapping[str, Any] | None = None,
        *,
        target_recall: float = _RECALL,
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
        options = _query_options(filter, target_recall, nprobe, exact, centroid_ids)
        if fast is not None:
            found = fast.vector_query(*self._of(ctx), vector, _count(k), _encoded(options))
            if found is not None:
                return Hits(Hit(*hit) for hit in found)
        options["vector"] = _json.as_list(vector, "a vector")
        options["k"] = _count(k)
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
        target_recall: float = _RECALL,
        exact: bool = False,
        centroid_ids: Sequence[int] | None = None,
    ) -> Tuple[List[List[str]], Any]:
        """Answers many queries at once: (ids, scores), for each query a list of up to k, the best first.

        `queries` is as `vectors` of `upsert_arrays`, the rest as in `query`. When it is NumPy's, scores is a
        float32 array n x k, NaN where a query has fewer than k hits.
        """
        width = self._width(ctx, k)
        options = _query_options(filter, target_recall, nprobe, exact, centroid_ids)
        if threads != 1:
            options["threads"] = threads
        numpy = sys.modules.get("numpy")
        if fast is not None and numpy is not None and type(queries) is numpy.ndarray and queries.ndim == 2:
            scores = numpy.empty((len(queries), width), numpy.float32)
            ids = fast.vector_query_arrays(*self._of(ctx), queries, width, _encoded(options), scores)
            if ids is not None:
                return ids, scores
        matrix = float_matrix(queries, "the queries")
        if matrix.is_numpy:
            numpy = sys.modules["numpy"]
            scores = numpy.empty((matrix.rows, width), dtype=numpy.float32)
            return self._query_matrix(ctx, matrix, width, options, scores.ctypes.data), scores
        floats = (ctypes.c_float * (matrix.rows * width))()
        hits = self._query_matrix(ctx, matrix, width, options, ctypes.addressof(floats))
        return hits, [list(floats[row * width : row * width + len(ids)]) for row, ids in enumerate(hits)]

    def _width(self, ctx: Context, k: int) -> int:
        """Places for the hits of a query: there cannot be more hits than rows, so a huge k takes no more."""
        width = max(_count(k), 0)
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

    def _of(self, ctx: Context | None) -> Tuple[int, int]:
        return context_id(ctx), self._handle.value

    def _upsert(self, ctx: Context, items: Sequence[Item]) -> None:
        text = _json.encode([_row(item) for item in items], "the vectors")
        call(native.sop_vector_upsert, *self._of(ctx), text, len(text))

    def _upsert_matrix(
        self, ctx: Context, ids: Sequence[str], vectors: FloatMatrix, payloads: Sequence[Any] | None
    ) -> None:
        if vectors.rows != len(ids):
            raise ValidationError(f"{len(ids)} ids for {vectors.rows} vectors")
        names = _json.encode(ids, "the ids")
        rows = None if payloads is None else _json.encode(payloads, "the payloads")
        call(
            native.sop_vector_upsert_arrays,
            *self._of(ctx),
            names,
            len(names),
            vectors.rows,
            vectors.columns,
            vectors.address,
            rows,
            0 if rows is None else len(rows),
        )

    def _upsert_in_steps(
        self,
        ctx: Context,
        ids: Sequence[str],
        vectors: FloatMatrix,
        payloads: Sequence[Any] | None,
        progress: maintenance.Progress,
    ) -> None:
        """As `_upsert_matrix`, step by step in one transaction."""
        if self._transaction is None:
            with Transaction(ctx, TransactionOptions(), _folder=self._folder) as transaction:
                self.with_transaction(transaction)._upsert_in_steps(ctx, ids, vectors, payloads, progress)
            return
        if vectors.rows != len(ids):
            raise ValidationError(f"{len(ids)} ids for {vectors.rows} vectors")
        for start in range(0, len(ids), _STEP):
            stop = min(start + _STEP, len(ids))
            some = None if payloads is None else payloads[start:stop]
            self._upsert_matrix(ctx, ids[start:stop], vectors.part(start, stop), some)
            progress(stop, len(ids))

    def _query_matrix(
        self, ctx: Context, matrix: FloatMatrix, k: int, options: Mapping[str, Any], scores: int
    ) -> List[List[str]]:
        """The ids for each query. The scores go to the address `scores`: k for each, NaN behind the last."""
        if matrix.rows == 0:
            return []
        text = _json.encode(options, "the query options")
        out = ctypes.c_void_p()
        call(
            native.sop_vector_query_arrays,
            *self._of(ctx),
            matrix.rows,
            matrix.columns,
            matrix.address,
            k,
            text,
            len(text),
            ctypes.byref(out),
            scores,
        )
        ids: List[str] = json.loads(take_text(out.value) or "[]")
        starts = range(0, matrix.rows * k, k) if k else [0] * matrix.rows
        return [[id for id in ids[start : start + k] if id] for start in starts]


def usage_mode_value(mode: Any) -> int:
    """The number of a usage mode argument."""
    try:
        return UsageMode(mode).value
    except ValueError as error:
        raise ValidationError(f"usage_mode must be a UsageMode, not {mode!r}") from error


def _check_item(item: Any) -> None:
    if not isinstance(item, Item):
        raise ValidationError(f"expected a sop.ai.Item, not {type(item).__name__}")


def _row(item: Item) -> Dict[str, Any]:
    _check_item(item)
    vector = _json.as_list(item.vector, "a vector")
    return {"id": item.id, "vector": vector, "payload": item.payload, "centroid_id": item.centroid_id}


def _ids(ids: Any) -> List[str]:
    names = _json.as_list(ids, "the ids")
    for name in names:
        if not isinstance(name, str):
            raise ValidationError(f"the id of a vector must be a str, not {type(name).__name__}")
    return names


def _payload_rows(payloads: Any, rows: int) -> List[Any] | None:
    """One payload for each row, out of a list of them or of columns."""
    if payloads is None:
        return None
    if isinstance(payloads, Mapping):
        columns = {name: _column(name, values, rows) for name, values in payloads.items()}
        return [{name: column[row] for name, column in columns.items()} for row in range(rows)]
    given = _json.as_list(payloads, "the payloads")
    if len(given) != rows:
        raise ValidationError(f"{len(given)} payloads for {rows} vectors")
    return given


def _column(name: Any, values: Any, rows: int) -> List[Any]:
    column = _json.as_list(values, f"the payload column {name!r}")
    if len(column) != rows:
        raise ValidationError(f"the payload column {name!r} has {len(column)} values for {rows} vectors")
    return column


def _query_options(
    filter: Any, target_recall: Any, nprobe: Any, exact: Any, centroid_ids: Any
) -> Dict[str, Any]:
    """What differs from the defaults."""
    options: Dict[str, Any] = {}
    if filter is not None:
        options["filter"] = dict(filter) if isinstance(filter, Mapping) else filter
    if target_recall != _RECALL:
        options["target_recall"] = target_recall
    if nprobe is not None:
        options["nprobe"] = nprobe
    if exact:
        options["exact"] = True
    if centroid_ids is not None:
        options["centroid_ids"] = _json.as_list(centroid_ids, "centroid_ids")
    return options


def _encoded(options: Mapping[str, Any]) -> bytes | None:
    return _json.encode(options, "the query options") if options else None


def _metric_value(metric: Any) -> int:
    """The number of a metric argument."""
    try:
        return Metric(metric).value
    except ValueError as error:
        raise ValidationError(f"metric must be a sop.ai.Metric, not {metric!r}") from error


def _count(k: Any) -> int:
    if not isinstance(k, bool):
        try:
            return operator.index(k)  # NumPy's integers too
        except TypeError:
            pass
    raise ValidationError(f"k must be an int, not {type(k).__name__}")
