"""What callers give to a vector store, checked."""

from __future__ import annotations

import operator
from typing import Any, Dict, List, Mapping

from .. import _json
from ..errors import ValidationError

# The share of the true hits that a query finds on average, if nothing else is asked for.
RECALL = 0.95


def ids_of(ids: Any) -> List[str]:
    """The ids of a list, or of another iterable."""
    names = _json.as_list(ids, "the ids")
    for name in names:
        if not isinstance(name, str):
            raise ValidationError(f"the id of a vector must be a str, not {type(name).__name__}")
    return names


def payload_rows(payloads: Any, rows: int) -> List[Any] | None:
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


def query_options(
    filter: Any, target_recall: Any, nprobe: Any, exact: Any, centroid_ids: Any
) -> Dict[str, Any]:
    """What differs from the defaults."""
    options: Dict[str, Any] = {}
    if filter is not None:
        options["filter"] = dict(filter) if isinstance(filter, Mapping) else filter
    if target_recall != RECALL:
        options["target_recall"] = target_recall
    if nprobe is not None:
        options["nprobe"] = nprobe
    if exact:
        options["exact"] = True
    if centroid_ids is not None:
        options["centroid_ids"] = _json.as_list(centroid_ids, "centroid_ids")
    return options


def encoded(options: Mapping[str, Any]) -> bytes | None:
    """JSON text of options, None for no options."""
    return _json.encode(options, "the query options") if options else None


def count_of(k: Any) -> int:
    """The number of hits that is asked for."""
    if not isinstance(k, bool):
        try:
            return operator.index(k)  # NumPy's integers too
        except TypeError:
            pass
    raise ValidationError(f"k must be an int, not {type(k).__name__}")
