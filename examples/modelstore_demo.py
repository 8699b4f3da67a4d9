"""Models: save, load, list, delete; and a new version released together with its vectors.

Run: PYTHONPATH=python python3 examples/modelstore_demo.py [folder]
"""

from __future__ import annotations

import sys
import tempfile

from sop import Context, ItemNotFoundError
from sop.ai import Database, Item, Model


def main(folder: str) -> None:
    ctx = Context()
    with Database(ctx, storage_path=folder) as db:
        models = db.open_model_store(ctx, "models")
        for version, accuracy in (("v1", 0.91), ("v2", 0.95)):
            model = Model(
                id=f"churn_{version}",
                algorithm="random_forest",
                hyperparameters={"trees": 100},
                parameters=[0.5, 0.1, 0.9],
                metrics={"accuracy": accuracy},
                is_active=version == "v2",
            )
            models.save(ctx, "classifiers", model.id, model)
        models.save(ctx, "prompts", "greeting", {"text": "Hello {name}"})

        print(f"classifiers: {models.list(ctx, 'classifiers')}")
        loaded = models.get(ctx, "classifiers", "churn_v2")
        print(
            f"loaded {loaded['id']}: accuracy {loaded['metrics']['accuracy']}, active {loaded['is_active']}"
        )
        print(f"prompt: {models.get(ctx, 'prompts', 'greeting')['text']}")

        models.delete(ctx, "classifiers", "churn_v1")
        print(f"after deleting v1: {models.list(ctx, 'classifiers')}")
        try:
            models.get(ctx, "classifiers", "churn_v1")
        except ItemNotFoundError as error:
            print(f"v1 is gone: {error}")

        with db.begin_transaction(ctx) as t:
            db.open_model_store(ctx, t, "models").save(ctx, "classifiers", "churn_v3", Model(id="churn_v3"))
            db.open_vector_store(ctx, t, "customers").upsert(
                ctx, Item("c1", [1.0, 0.0], {"model": "churn_v3"})
            )
        customer = db.open_model_store(ctx, "models").get(ctx, "classifiers", "churn_v3")
        print(f"released together with its vectors: {customer['id']}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(temporary)
