"""Reads a folder of sop4py 2 for `from_sop4py`. It is run by the Python that has sop4py, where this package
cannot be imported: both are called sop.

    python -I sop4py_reader.py FOLDER                 the stores, a line of JSON for each
    python -I sop4py_reader.py FOLDER KIND NAME       the rows of one, a line of JSON for each
"""

from __future__ import annotations

import json
import os
import sys
import types
from typing import Any, Dict, Iterator, List, Tuple

_PAGE = 1000
_FORWARD, _BACKWARD = 0, 1
_READING = 2
# How the B-trees of a vector store go on behind its name.
_CONFIG, _DATA, _LOOKUP, _VECTORS, _CENTROIDS = "_sys_config", "_data", "_lku", "_vecs", "_centroids"


def main(folder: str, kind: str = "", name: str = "") -> None:
    # The library logs to stdout: that goes to stderr, and the answer to what stdout was.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    readers = {"": _stores, "btree": _items, "vector": _vectors, "model": _models}
    for row in readers[kind](folder, name):
        answer.write(json.dumps(row) + "\n")
    answer.close()


def _stores(folder: str, _: str) -> Iterator[Dict[str, Any]]:
    infos = _infos(folder)
    vectors = [
        name[: -len(_CONFIG)] for name, info in infos.items() if info["description"] == "System Config"
    ]
    inside = {part for name in vectors for part in _parts(name, infos)}
    for name in vectors:
        yield {"kind": "vector", "name": name, "count": infos[name + _DATA]["count"]}
    for name, info in infos.items():
        if name not in inside:
            kind = "model" if info["description"] == "AI Models Registry" else "btree"
            yield {**info, "kind": kind, "name": name}


def _items(folder: str, name: str) -> Iterator[Tuple[Any, Any]]:
    import_library()
    from sop.btree import Btree  # type: ignore[attr-defined, unused-ignore]

    ctx, transaction, _ = _opened(folder)
    store: Any = Btree.open(ctx, name, transaction)
    if store.count() == 0:
        return
    forward = _infos(folder)[name]["is_unique"]
    (store.first if forward else store.last)(ctx)
    for item in _walk(ctx, store, _FORWARD if forward else _BACKWARD):
        yield item.key, item.value


def _walk(ctx: Any, store: Any, direction: int) -> Iterator[Any]:
    """All items. Behind the last one, pages begin again with the first."""
    from sop.btree import PagingInfo

    first = None
    while True:
        page: List[Any] = store.get_items(ctx, PagingInfo(page_size=_PAGE, direction=direction))
        if not page or page[0].id == first:
            return
        first = first or page[0].id
        yield from page
        if len(page) < _PAGE:
            return


def _vectors(folder: str, name: str) -> Iterator[Tuple[str, List[float], Any]]:
    import_library()
    parts = [part for part in _parts(name, _infos(folder)) if part.startswith(name + _VECTORS)]
    ids = {key["ItemID"] for part in parts for key, _ in _items(folder, part)}
    ctx, transaction, database = _opened(folder)
    store: Any = database.open_vector_store(ctx, transaction, name)
    for id in sorted(ids):
        try:
            item = store.get(ctx, id)
        except Exception as error:
            if "item not found" not in str(error):
                raise
            continue  # deleted
        yield item.id, item.vector, item.payload


def _models(folder: str, name: str) -> Iterator[Tuple[str, str, Any]]:
    for key, text in _items(folder, name):
        yield key["Category"], key["Name"], json.loads(text)


def _infos(folder: str) -> Dict[str, Dict[str, Any]]:
    """What the folder says of its B-trees."""
    with open(os.path.join(folder, "storelist.txt"), encoding="utf-8") as file:
        names = sorted(json.load(file))
    infos = {}
    for name in names:
        with open(os.path.join(folder, name, "storeinfo.txt"), encoding="utf-8") as file:
            infos[name] = json.load(file)
    return infos


def _parts(name: str, infos: Dict[str, Any]) -> List[str]:
    """The B-trees of a vector store. Each `optimize` has numbered some of them anew."""
    fixed = (name + _CONFIG, name + _DATA)
    numbered = tuple(name + part for part in (_LOOKUP, _VECTORS, _CENTROIDS))
    return [
        part
        for part in infos
        if part in fixed
        or any(
            part == begin or (part.startswith(begin + "_") and part[len(begin) + 1 :].isdigit())
            for begin in numbered
        )
    ]


def import_library() -> None:
    """Imports sop4py. That of 2.0.17 imports a module which its wheel lacks."""
    try:
        import sop
    except ModuleNotFoundError as error:
        if error.name != "sop.ai.langchain":
            sys.exit("this Python has no sop4py: pip install sop4py==2.3.3, into a virtual environment")
        missing: Any = types.ModuleType(error.name)
        missing.SOPVectorStore = None
        sys.modules[error.name] = missing
    try:
        import sop.call_go  # type: ignore[import-not-found, unused-ignore] # noqa: F401
    except ModuleNotFoundError:
        sys.exit("the sop of this Python is not sop4py 2: give one that has, say, sop4py==2.3.3")


def _opened(folder: str) -> Tuple[Any, Any, Any]:
    """A context, a transaction that reads, and the database."""
    from sop import Context
    from sop.ai import Database

    ctx = Context()
    try:
        from sop.database import DatabaseOptions  # type: ignore[attr-defined, unused-ignore]
    except ImportError:  # 2.0.17
        database: Any = Database(ctx, storage_path=folder)
    else:
        database = Database(DatabaseOptions(**_options(folder)))
    return ctx, database.begin_transaction(ctx, _READING), database


def _options(folder: str) -> Dict[str, Any]:
    """What a folder of 2.3 says of its database; it may have been moved."""
    from sop.transaction import DatabaseType, ErasureCodingConfig  # type: ignore[attr-defined, unused-ignore]

    path = os.path.join(folder, "dboptions.json")
    if not os.path.exists(path):
        return {"stores_folders": [folder]}
    with open(path, encoding="utf-8") as file:
        said = json.load(file)
    coding = {
        name: ErasureCodingConfig(**settings) for name, settings in (said.get("erasure_config") or {}).items()
    }
    return {
        "type": DatabaseType(said.get("type", 0)),
        "stores_folders": [folder, *(said.get("stores_folders") or [])[1:]],
        "erasure_config": coding or None,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
