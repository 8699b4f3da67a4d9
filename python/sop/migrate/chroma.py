"""A folder of Chroma: each collection becomes a vector store of the same metric.

The metadata become the payload, and the document its field `text`, where SOPVectorStore looks for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence

from .._progress import Progress
from ..ai.vector import Item, Metric
from ..context import Context
from ..errors import StorageError, UnsupportedError, ValidationError
from .load import Imported, chosen, load
from .tables import VectorTable, steps

if TYPE_CHECKING:
    import os

    from ..database import Database

_METRICS = {"cosine": Metric.Cosine, "ip": Metric.Dot, "l2": Metric.L2}
# Collections asked for at a time.
_PAGE = 100


def from_chroma(
    db: Database,
    source: str | os.PathLike[str],
    *,
    only: Optional[Sequence[str]] = None,
    text_key: str = "text",
    verify: bool = False,
    progress: Optional[Progress] = None,
    ctx: Optional[Context] = None,
) -> Imported:
    """Imports the collections of a folder of Chroma, those in `only` if it is given, in one transaction.

    Needs the package chromadb, which may write to the folder when it opens it (its own migrations). Nobody
    else may write to it meanwhile. `text_key` is the field of the payload for documents. `verify` compares
    all rows afterwards.
    """
    path = Path(source)
    if not (path / "chroma.sqlite3").is_file():
        raise ValidationError(f"{path} is no folder of Chroma: it has no chroma.sqlite3")
    tables = chosen((_table(found, text_key) for found in _collections(path)), only, "collection")
    return load(ctx, db, tables, verify, progress)


def _collections(path: Path) -> Iterator[Any]:
    try:
        import chromadb  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise UnsupportedError("this needs the package chromadb: pip install chromadb") from error
    settings = chromadb.Settings(anonymized_telemetry=False)
    client = chromadb.PersistentClient(str(path), settings=settings)
    for offset in range(0, client.count_collections(), _PAGE):
        yield from client.list_collections(limit=_PAGE, offset=offset)


def _table(collection: Any, text_key: str) -> VectorTable:
    def rows() -> Iterator[Item]:
        # By id: pages by offset would have to be in one order.
        for ids in steps(collection.get(include=[])["ids"]):
            yield from _rows(collection, ids, text_key)

    return VectorTable(collection.name, _metric(collection), collection.count(), rows)


def _metric(collection: Any) -> Metric:
    settings = collection.configuration_json
    space = (settings.get("hnsw") or settings.get("spann") or {}).get("space", "l2")
    if space not in _METRICS:
        raise UnsupportedError(f"the collection {collection.name!r} has a metric unknown here: {space!r}")
    return _METRICS[space]


def _rows(collection: Any, ids: List[str], text_key: str) -> Iterator[Item]:
    found = collection.get(ids=ids, include=["embeddings", "documents", "metadatas", "uris"])
    if len(found["ids"]) != len(ids):
        raise StorageError(f"Chroma gives {len(found['ids'])} of {len(ids)} rows of {collection.name!r}")
    columns = (found["embeddings"], found["documents"], found["metadatas"], found["uris"])
    for id, vector, document, metadata, uri in zip(found["ids"], *columns):
        fields: Dict[str, Any] = dict(metadata or {})
        for field, value in ((text_key, document), ("uri", uri)):
            if value is None:
                continue
            if field in fields:
                raise ValidationError(
                    f"collection {collection.name!r}, id {id!r}: the metadata have a field {field!r}, too: "
                    "choose another one for documents (text_key, --text-key)"
                )
            fields[field] = value
        yield Item(id, vector.tolist(), fields or None)
