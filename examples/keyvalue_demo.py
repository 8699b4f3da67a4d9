"""Keys and values: writing, finding, paging, ranges, duplicates, keys of several fields.

Run: PYTHONPATH=python python3 examples/keyvalue_demo.py [folder]
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass

from sop import Context, Database, TransactionMode, btree


@dataclass
class OrderKey:
    customer: str
    number: int
    note: str = ""


def users(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        store = btree.Btree.new(ctx, btree.BtreeOptions("users", True), t)
        added = store.add(ctx, [btree.Item(key=n, value={"name": f"user {n}"}) for n in range(100)])
        print(f"added 100 users: {added}; adding user 7 again: {store.add(ctx, 7, None)}")
        store.update(ctx, 7, {"name": "seven"})
        store.remove(ctx, [8, 9])

    with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
        store = btree.Btree.open(ctx, "users", t)
        item = store.find_one(ctx, 7)
        if item:
            print(f"users now: {store.count()}; user 7: {item.value}")
        print(f"keys from 5 to below 12: {list(store.keys(ctx, 5, 12))}")

        pages = 0
        store.first(ctx)
        while page := store.get_keys(ctx, btree.PagingInfo(page_size=40)):
            pages += 1
            print(f"page {pages}: keys {page[0].key} to {page[-1].key}")


def visits(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        store = btree.Btree.new(ctx, btree.BtreeOptions("visits"), t)
        for page in ("home", "search", "cart"):
            store.add(ctx, "ann", page)
        print(f"visits of ann, the newest first: {list(store.values(ctx, 'ann'))}")


def orders(ctx: Context, db: Database) -> None:
    newest_first = btree.IndexSpecification(
        [
            btree.IndexFieldSpecification("customer"),
            btree.IndexFieldSpecification("number", ascending_sort_order=False),
        ]
    )
    with db.begin_transaction(ctx) as t:
        made = btree.BtreeOptions("orders", True, is_primitive_key=False)
        store = btree.Btree.new(ctx, made, t, newest_first)
        for customer, number in (("ann", 1), ("bob", 2), ("ann", 3)):
            store.add(ctx, OrderKey(customer, number, note="by phone"), {"total": number * 10})
        for item in store.items(ctx):
            print(f"order {item.key['customer']} {item.key['number']}: {item.value['total']}")


def main(folder: str) -> None:
    ctx = Context()
    with Database(ctx, storage_path=folder) as db:
        users(ctx, db)
        visits(ctx, db)
        orders(ctx, db)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(temporary)
