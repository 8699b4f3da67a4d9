"""Stores keys and values, vectors and a model in one transaction, and finds them again in a new process.

Run: PYTHONPATH=python python3 examples/quickstart.py [folder]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

from sop import Context, Transaction, TransactionMode, TransactionOptions, ai, btree

PRODUCTS = {
    "p1": ("Laptop", 999, [0.9, 0.1, 0.1]),
    "p2": ("Phone", 599, [0.8, 0.3, 0.1]),
    "p3": ("Teapot", 39, [0.1, 0.2, 0.9]),
}


def options(folder: str, mode: TransactionMode) -> TransactionOptions:
    return TransactionOptions(mode=mode, stores_folders=[folder])


def store(folder: str) -> None:
    ctx = Context()
    db = ai.Database(ctx, storage_path=folder)
    with Transaction(ctx, options(folder, TransactionMode.ForWriting)) as t:
        prices = btree.Btree.new(ctx, btree.BtreeOptions("prices", True), t)
        products = db.open_vector_store(ctx, t, "products")
        models = db.open_model_store(ctx, t, "models")

        for id, (name, price, vector) in PRODUCTS.items():
            prices.upsert(ctx, id, price)
            products.upsert(ctx, ai.Item(id, vector, {"name": name}))
        models.save(ctx, "ranking", "v1", ai.Model(id="v1", algorithm="cosine", metrics={"recall": 1.0}))

        print(
            f"Stored {prices.count()} prices, {products.count(ctx)} vectors and 1 model in one transaction."
        )


def find(folder: str) -> None:
    ctx = Context()
    db = ai.Database(ctx, storage_path=folder)
    with Transaction(ctx, options(folder, TransactionMode.ForReading)) as t:
        prices = btree.Btree.open(ctx, "prices", t)
        for item in prices.items(ctx):
            print(f"Found price: {item.key} costs {item.value}")

        products = db.open_vector_store(ctx, t, "products")
        for hit in products.query(ctx, vector=[1.0, 0.2, 0.1], k=2):
            print(f"Found vector: {hit.id} {hit.payload['name']}, score {hit.score:.3f}")

        model = db.open_model_store(ctx, t, "models").get(ctx, "ranking", "v1")
        print(f"Found model: {model['id']}, algorithm {model['algorithm']}, metrics {model['metrics']}")


def main(folder: str) -> None:
    store(folder)
    print("Reopening in a new process.", flush=True)
    subprocess.run([sys.executable, __file__, "--find", folder], check=True)
    print("Everything that was stored was found again.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--find"]:
        find(sys.argv[2])
    elif len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(temporary)
