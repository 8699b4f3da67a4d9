"""What a B-tree is: items in the order of their keys, the newest of equals first, and a cursor."""

from __future__ import annotations

import bisect
import functools
from typing import Any

UNSET, BEFORE, PAST = "unset", "before the first", "past the last"
_MISSING = (-1,)  # as a field of an index; before every value

# Rank of the key, and minus the number of the call that added it: 0 in a unique B-tree.
Id = tuple[tuple, int]


@functools.total_ordering
class Falling:
    """A rank whose order is turned around."""

    def __init__(self, rank: tuple) -> None:
        self.rank = rank

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Falling) and self.rank == other.rank

    def __lt__(self, other: Falling) -> bool:
        return other.rank < self.rank

    def __hash__(self) -> int:
        return hash(self.rank)


def value_rank(value: Any) -> tuple:
    """The documented order: None, booleans, numbers, text, lists, dicts."""
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, (int, float)):
        return (2, value)
    if isinstance(value, str):
        return (3, value.encode())
    if isinstance(value, list):
        return (4, tuple(value_rank(element) for element in value))
    return (5, tuple((name.encode(), value_rank(value[name])) for name in sorted(value, key=str.encode)))


class Order:
    """The order of one B-tree's keys: of all of a key, or of some fields (name, ascending)."""

    def __init__(self, fields: tuple[tuple[str, bool], ...] = ()) -> None:
        self.fields = fields

    def rank(self, key: Any) -> tuple:
        if not self.fields:
            return value_rank(key)
        ranks = []
        for name, ascending in self.fields:
            rank = value_rank(key[name]) if name in key else _MISSING
            ranks.append(rank if ascending else Falling(rank))
        return tuple(ranks)

    def bound(self, key: Any) -> tuple:
        """A bound without its last fields is before all keys that begin with it."""
        given = [place for place, (name, _) in enumerate(self.fields, 1) if name in key]
        rank = self.rank(key)
        return rank[: max(given, default=0)] if self.fields else rank


class SortedMap:
    """A B-tree as one transaction sees it, and what that transaction wrote and read."""

    def __init__(self, order: Order, is_unique: bool, rows: dict[Id, tuple]) -> None:
        self.order = order
        self.is_unique = is_unique
        self.rows = dict(rows)  # id: (key, value)
        self.ids = sorted(rows)
        self.place: Any = UNSET
        self.written: set[Id] = set()
        self.looked_up: set[tuple] = set()
        self.walked = False  # it went over items: what it read is more than keys

    # Reading

    def current(self) -> Id | None:
        return self.place if self.place in self.rows else None

    def equals(self, key: Any) -> list[Id]:
        rank = self.order.rank(key)
        return [id for id in self.ids if id[0] == rank]

    def first_from(self, rank: tuple) -> int:
        return bisect.bisect_left([id[0] for id in self.ids], rank)

    def look_up(self, key: Any) -> Id | None:
        self.looked_up.add(self.order.rank(key))
        return next(iter(self.equals(key)), None)

    def find(self, key: Any) -> Id | None:
        found = self.look_up(key)
        if found:
            self.place = found
            return found
        self.walked = True
        at = self.first_from(self.order.rank(key))
        self.place = self.ids[min(at, len(self.ids) - 1)] if self.ids else UNSET
        return None

    def ahead(self, backward: bool) -> list[Id]:
        """What a walk meets, the current item first."""
        if self.place == (BEFORE if backward else PAST):
            return []
        ids = self.ids
        if isinstance(self.place, tuple):
            at = self.place
            ids = [id for id in ids if (id <= at if backward else id >= at)]
        return ids[::-1] if backward else ids

    def walk_to(self, ahead: list[Id], skip: int, backward: bool) -> bool:
        self.walked = True
        if skip < len(ahead):
            self.place = ahead[skip]
        elif self.ids or self.place != UNSET:
            self.place = BEFORE if backward else PAST
        return skip < len(ahead)

    def step(self, move: str) -> bool:
        backward = move in ("last", "previous")
        if move in ("first", "last"):
            self.place = UNSET
        return self.walk_to(self.ahead(backward), int(self.current() is not None), backward)

    def page(self, skip: int, take: int, backward: bool) -> list[Id]:
        ahead = self.ahead(backward)
        self.walk_to(ahead, skip + take, backward)
        return ahead[skip : skip + take]

    def range(self, start: Any, stop: Any, reverse: bool) -> list[Id]:
        self.walked = True
        low = 0 if start is None else self.first_from(self.order.bound(start))
        high = len(self.ids) if stop is None else self.first_from(self.order.bound(stop))
        ids = self.ids[low:high]
        return ids[::-1] if reverse else ids

    # Writing

    def put(self, id: Id, key: Any, value: Any) -> None:
        self.written.add(id)
        if id not in self.rows:
            bisect.insort(self.ids, id)
        elif self.order.fields:
            key = self.rows[id][0]  # fields that neither order nor identify stay those of the first
        self.rows[id] = (key, value)

    def chosen(self, key: Any) -> Id | None:
        """Of equal items the one at the cursor, else the newest."""
        first, current = self.look_up(key), self.current()
        return current if current and current[0] == self.order.rank(key) else first

    def write(self, how: str, key: Any, value: Any, number: int) -> bool:
        id = (self.order.rank(key), 0 if self.is_unique else -number)
        chosen = None if how == "add" and not self.is_unique else self.chosen(key)
        if chosen is None and how != "update":
            self.put(id, key, value)
        elif chosen and how in ("update", "upsert"):
            self.put(chosen, key, value)
        else:
            self.place = chosen or self.place
            return False
        return True

    def remove(self, key: Any) -> bool:
        return self.remove_id(self.chosen(key))

    def remove_id(self, id: Id | None) -> bool:
        if id is None:
            return False
        self.written.add(id)
        self.ids.remove(id)
        del self.rows[id]
        return True
