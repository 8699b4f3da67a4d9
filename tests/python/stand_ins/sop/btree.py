from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any


@dataclass
class PagingInfo:
    page_offset: int = 0
    page_size: int = 20
    fetch_count: int = 0
    direction: int = 0


@dataclass
class Item:
    key: Any
    value: Any
    id: str


class Btree:
    def __init__(self, items: list[Item]) -> None:
        self._items = items
        self._at = 0

    @classmethod
    def open(cls, ctx: Any, name: str, transaction: Any) -> Btree:
        with open(os.path.join(transaction.folder, name, "items.json"), encoding="utf-8") as file:
            return cls([Item(key, value, f"id {row}") for row, (key, value) in enumerate(json.load(file))])

    def count(self) -> int:
        return len(self._items)

    def first(self, ctx: Any) -> bool:
        self._at = 0
        return True

    def last(self, ctx: Any) -> bool:
        self._at = len(self._items) - 1
        return True

    def get_items(self, ctx: Any, paging: PagingInfo) -> list[Item]:
        if not self._items:
            raise RuntimeError("can't fetch from an empty btree")
        step = -1 if paging.direction else 1
        page = []
        while len(page) < paging.page_size and 0 <= self._at < len(self._items):
            page.append(self._items[self._at])
            self._at += step
        if not 0 <= self._at < len(self._items):
            self._at %= len(self._items)  # it begins anew
        return page
