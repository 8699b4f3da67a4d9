"""Model stores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from sop import Context, Database, ItemNotFoundError, TransactionMode, ValidationError, btree
from sop.ai import Database as AiDatabase
from sop.ai import Item, Model, ModelStore, VectorDatabase


@pytest.fixture
def models(ctx: Context, db: Database) -> ModelStore:
    return db.open_model_store(ctx, "models")


def test_positional_order_of_the_dataclass_is_that_of_2_0_17() -> None:
    model = Model("id", "algorithm", {"h": 1}, [0.5], {"m": 1.0}, True)
    assert (model.id, model.algorithm, model.hyperparameters) == ("id", "algorithm", {"h": 1})
    assert (model.parameters, model.metrics, model.is_active) == ([0.5], {"m": 1.0}, True)
    assert Model("id") == Model("id", "", {}, [], {}, False)
    assert AiDatabase is Database
    assert issubclass(VectorDatabase, Database)


def test_save_get_list_delete(ctx: Context, models: ModelStore) -> None:
    assert models.list(ctx, "c") == []
    model = Model("m1", "forest", {"trees": 100}, [0.5, 0.1], {"accuracy": 0.98}, True)
    models.save(ctx, "c", "b", model)
    models.save(ctx, "c", "a", Model("m2"))
    models.save(ctx, "other", "z", Model("m3"))
    assert models.list(ctx, "c") == ["a", "b"]
    loaded = models.get(ctx, "c", "b")
    assert loaded == {
        "id": "m1",
        "algorithm": "forest",
        "hyperparameters": {"trees": 100},
        "parameters": [0.5, 0.1],
        "metrics": {"accuracy": 0.98},
        "is_active": True,
    }
    assert Model(**loaded) == model
    models.save(ctx, "c", "b", Model("new"))
    assert models.get(ctx, "c", "b")["id"] == "new"
    models.delete(ctx, "c", "b")
    models.delete(ctx, "c", "b")
    assert models.list(ctx, "c") == ["a"]
    with pytest.raises(ItemNotFoundError, match="model not found: c/b"):
        models.get(ctx, "c", "b")


def test_a_loaded_model_answers_model_with_itself(ctx: Context, models: ModelStore) -> None:
    """The seed page reads loaded['model']['id'], scripts for 2.0.17 loaded['id']."""
    models.save(ctx, "c", "n", Model("m1"))
    loaded = models.get(ctx, "c", "n")
    assert loaded["model"]["id"] == loaded["id"] == "m1"
    assert "model" not in dict(loaded)
    with pytest.raises(KeyError):
        loaded["nothing"]
    models.save(ctx, "c", "n", {"model": "own field"})
    assert models.get(ctx, "c", "n")["model"] == "own field"


@dataclass
class Custom:
    layers: list
    inner: Model


@pytest.mark.parametrize(
    ("model", "loaded"),
    [
        ({"any": {"thing": [1, None]}}, {"any": {"thing": [1, None]}}),
        (Custom([1], Model("x")), None),
        ([1, 2, 3], [1, 2, 3]),
        ("text", "text"),
        (None, None),
        (7, 7),
        ({}, {}),
    ],
)
def test_anything_that_json_carries_can_be_saved(ctx: Context, models: ModelStore, model, loaded) -> None:
    models.save(ctx, "c", "n", model)
    found = models.get(ctx, "c", "n")
    if isinstance(model, Custom):
        assert found["inner"]["id"] == "x"
    else:
        assert found == loaded


def test_wrong_arguments(ctx: Context, models: ModelStore, db: Database) -> None:
    for call in (
        lambda: models.save(ctx, "c", "n", {1, 2}),
        lambda: models.save(ctx, "c", "n", {"a": float("nan")}),
        lambda: models.save(ctx, None, "n", {}),
        lambda: models.save(ctx, "c", 7, {}),
        lambda: models.save(ctx, "c", "\ud800", {}),
        lambda: models.get(ctx, "c", None),
        lambda: models.delete(ctx, 7, "n"),
        lambda: models.list(ctx, None),
        lambda: db.open_model_store(ctx, 7),
        lambda: db.open_model_store(ctx, None),
        lambda: db.open_model_store(ctx, "a", "b"),
    ):
        with pytest.raises(ValidationError):
            call()
    assert models.list(ctx, "c") == []


def test_names_are_separate_stores(ctx: Context, db: Database) -> None:
    db.open_model_store(ctx, "one").save(ctx, "c", "n", 1)
    assert db.open_model_store(ctx, "two").list(ctx, "c") == []
    assert db.open_model_store(ctx, name="one").get(ctx, "c", "n") == 1


def test_inside_a_transaction(ctx: Context, db: Database, models: ModelStore) -> None:
    t = db.begin_transaction(ctx)
    inside = db.open_model_store(ctx, t, "models")
    inside.save(ctx, "c", "n", Model("m1"))
    assert inside.list(ctx, "c") == ["n"]
    assert inside.transaction_id == t.transaction_id
    assert models.list(ctx, "c") == []
    t.rollback(ctx)
    with db.begin_transaction(ctx) as t:
        assert db.open_model_store(ctx, trans=t, name="models").list(ctx, "c") == []
        db.open_model_store(ctx, t, "models").save(ctx, "c", "n", Model("m1"))
    assert models.get(ctx, "c", "n")["id"] == "m1"
    assert models.transaction_id.int == 0


def test_the_store_without_a_name(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        ModelStore.open_btree_store(ctx, t).save(ctx, "c", "n", Model("m1"))
    with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
        assert ModelStore.open_btree_store(ctx, t).get(ctx, "c", "n")["id"] == "m1"


def test_stores_of_one_name_and_different_kind_are_apart(ctx: Context, tmp_path: Path) -> None:
    with VectorDatabase(ctx, storage_path=tmp_path) as vdb:
        with vdb.begin_transaction(ctx) as t:
            btree.Btree.new(ctx, btree.BtreeOptions("same", True), t).add(ctx, "k", 1)
            vdb.open_vector_store(ctx, t, "same").upsert(ctx, Item("k", [1.0]))
            vdb.open_model_store(ctx, t, "same").save(ctx, "c", "k", 1)
        with vdb.begin_transaction(ctx) as t:
            assert btree.Btree.open(ctx, "same", t).count() == 1
            assert vdb.open_vector_store(ctx, t, "same").count(ctx) == 1
            assert vdb.open_model_store(ctx, t, "same").list(ctx, "c") == ["k"]
