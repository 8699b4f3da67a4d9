from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..btree import Btree
from ..database import DatabaseOptions


@dataclass
class Item:
    id: str
    vector: list[float]
    payload: Any
    centroid_id: int = 0


class VectorStore:
    def __init__(self, transaction: Transaction, name: str) -> None:
        vectors = {
            item.key["ItemID"]: item for item in Btree.open(None, f"{name}_vecs_1", transaction)._items
        }
        self._data = {item.key["id"]: item for item in Btree.open(None, f"{name}_data", transaction)._items}
        self._vectors = vectors

    def get(self, ctx: Any, id: str) -> Item:
        if id not in self._vectors or self._data[id].key["del"]:
            raise Exception("item not found")
        return Item(id, self._vectors[id].value, self._data[id].value)


class Transaction:
    def __init__(self, folder: str) -> None:
        self.folder = folder


class Database:
    def __init__(self, options: DatabaseOptions) -> None:
        self._folder = options.stores_folders[0]

    def begin_transaction(self, ctx: Any, mode: int) -> Transaction:
        assert mode == 2
        return Transaction(self._folder)

    def open_vector_store(self, ctx: Any, transaction: Transaction, name: str) -> VectorStore:
        return VectorStore(transaction, name)
