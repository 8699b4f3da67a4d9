"""The calls of the library on many rows of a vector store: JSON text and matrices, once over."""

from __future__ import annotations

import ctypes
import json
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, cast

from .. import _json
from .._library import Opened, call, call_json, native, take_text
from ..context import Context, context_id
from ._arrays import FloatMatrix


class VectorCalls(Opened):
    """What a vector store is made of."""

    def _of(self, ctx: Context | None) -> Tuple[int, int]:
        return context_id(ctx), self._handle.value

    def _ids(self, ctx: Context, query: Mapping[str, Any]) -> Dict[str, Any]:
        """Some ids of a range, and what to resume from."""
        text = _json.encode(query, "the range")
        return cast(Dict[str, Any], call_json(native.sop_vector_ids, *self._of(ctx), text, len(text)))

    def _rows(self, ctx: Context | None, ids: Sequence[str]) -> List[Optional[Dict[str, Any]]]:
        """The rows of ids, None for one that is not there."""
        text = _json.encode(ids, "the ids")
        found = call_json(native.sop_vector_get_many, *self._of(ctx), text, len(text))
        return cast(List[Optional[Dict[str, Any]]], found)

    def _found(self, ctx: Context, ids: Sequence[str], columns: int, vectors: int) -> List[Dict[str, Any]]:
        """The rows of ids that are there, without vectors: these go to the address `vectors`."""
        text = _json.encode(ids, "the ids")
        out = ctypes.c_void_p()
        arguments = (*self._of(ctx), text, len(text), len(ids), columns)
        call(native.sop_vector_get_arrays, *arguments, ctypes.byref(out), vectors)
        return cast(List[Dict[str, Any]], json.loads(take_text(out.value) or "[]"))

    def _delete(self, ctx: Context, ids: Sequence[str]) -> None:
        text = _json.encode(ids, "the ids")
        call(native.sop_vector_delete, *self._of(ctx), text, len(text))

    def _upsert_rows(self, ctx: Context, rows: Sequence[Mapping[str, Any]]) -> None:
        text = _json.encode(rows, "the vectors")
        call(native.sop_vector_upsert, *self._of(ctx), text, len(text))

    def _upsert_matrix(
        self, ctx: Context, ids: Sequence[str], vectors: FloatMatrix, payloads: Sequence[Any] | None
    ) -> None:
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
