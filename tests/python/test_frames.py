"""pandas and Arrow: stores and hits as tables, and tables into stores, without losing a value."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sop import Context, Database, Map, ValidationError, btree, frames
from sop.ai import Item, VectorDatabase

RECORDS = [
    ("a", {"price": 1.5, "count": 2**53 + 1, "tags": ["x", "y"], "name": "Ann"}),
    ("b", {"price": None, "count": None, "tags": None, "name": "é"}),
    ("c", {"price": -0.25, "count": 0, "tags": [], "name": ""}),
]


@pytest.fixture
def goods(ctx: Context, db: Database) -> Map:
    goods = db.open_map(ctx, "goods")
    goods.put_many(RECORDS)
    return goods


def test_items_through_arrow_come_back_as_they_were(goods: Map, ctx: Context, db: Database) -> None:
    table = frames.to_arrow(goods, key="sku")
    assert table.column_names == ["sku", "price", "count", "tags", "name"]
    again = db.open_map(ctx, "again")
    again.put_many(frames.from_arrow(table, key="sku"))
    assert list(again.items()) == RECORDS


def test_items_through_pandas_come_back_as_they_were(goods: Map, ctx: Context, db: Database) -> None:
    frame = frames.to_pandas(goods, key="sku")
    assert list(frame.columns) == ["sku", "price", "count", "tags", "name"]
    again = db.open_map(ctx, "again")
    again.put_many(frames.from_pandas(frame, key="sku"))
    assert list(again.items()) == RECORDS


def test_single_values_are_a_column_called_value(ctx: Context, db: Database) -> None:
    pairs = [(1, "one"), (2, "two")]
    frame = frames.to_pandas(pairs)
    assert frame.to_dict("list") == {"key": [1, 2], "value": ["one", "two"]}
    assert list(frames.from_pandas(frame, key="key")) == pairs
    assert list(frames.from_arrow(frames.to_arrow(pairs), key="key")) == pairs
    assert frames.to_pandas([]).empty


def test_a_range_of_a_btree_and_keys_of_several_fields(ctx: Context, db: Database) -> None:
    readings = [({"sensor": "roof", "day": day}, {"celsius": 20.0 + day}) for day in range(3)]
    spec = btree.IndexSpecification(
        [btree.IndexFieldSpecification("sensor"), btree.IndexFieldSpecification("day")]
    )
    with db.begin_transaction(ctx) as t:
        options = btree.BtreeOptions("readings", is_unique=True, is_primitive_key=False)
        store = btree.Btree.new(ctx, options, t, spec)
        store.add(ctx, [btree.Item(key, value) for key, value in readings])
        frame = frames.to_pandas(store.items(ctx, start=readings[1][0]))
    assert frame.to_dict("list") == {"sensor": ["roof"] * 2, "day": [1, 2], "celsius": [21.0, 22.0]}
    assert list(frames.from_pandas(frame, key=["sensor", "day"])) == readings[1:]


def test_records_of_different_fields_have_none_where_they_lack_one() -> None:
    pairs = [(1, {"a": 1}), (2, {"b": "two"}), (3, {"a": 3})]
    table = frames.to_arrow(pairs)
    assert table.to_pydict() == {"key": [1, 2, 3], "a": [1, None, 3], "b": [None, "two", None]}
    flags = frames.to_pandas([(1, {"a": True}), (2, {"b": 1 << 63})])
    assert flags.to_dict("list") == {"key": [1, 2], "a": [True, None], "b": [None, 1 << 63]}
    mixed = frames.to_pandas([(1, {"a": 1}), (2, "text")])
    assert mixed["value"].tolist() == [{"a": 1}, "text"]


def test_hits_are_a_table(ctx: Context, tmp_path: Path) -> None:
    with VectorDatabase(ctx, tmp_path / "v") as db:
        store = db.open(ctx, "v")
        store.upsert_batch(ctx, [Item("x", [1.0, 0.0], {"n": 1}), Item("y", [0.0, 1.0], {"n": 2})])
        hits = store.query(ctx, [1.0, 0.0])
        assert frames.to_pandas(hits).to_dict("list") == {"id": ["x", "y"], "score": [1.0, 0.0], "n": [1, 2]}
        assert frames.to_arrow(hits).column_names == ["id", "score", "n"]
        bare = store.query(ctx, [1.0, 0.0])
        bare[0].payload = None
        assert list(frames.to_pandas(bare).columns) == ["id", "score", "payload"]


@pytest.mark.parametrize("cells", [lambda m: list(m), lambda m: m.tolist()])
def test_vectors_of_a_frame_go_into_a_store(ctx: Context, tmp_path: Path, cells: object) -> None:
    matrix = np.random.default_rng(3).standard_normal((50, 8)).astype(np.float32)
    names = [f"v{row}" for row in range(50)]
    frame = pd.DataFrame({"id": names, "n": range(50), "embedding": cells(matrix)})  # type: ignore[operator]
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), 8)
    tables = [
        pa.table({"id": names, "n": range(50), "embedding": fixed}),
        pa.table({"id": names, "n": range(50), "embedding": matrix.tolist()}),
        pa.concat_tables(
            [
                pa.table({"id": names, "n": range(50), "embedding": fixed})[row : row + 10]
                for row in range(0, 50, 10)
            ]
        ),
    ]
    columns = [frames.vectors_from_pandas(frame, "id", "embedding")]
    columns += [frames.vectors_from_arrow(table, "id", "embedding") for table in tables]
    with VectorDatabase(ctx, tmp_path / "v") as db:
        for row, some in enumerate(columns):
            assert np.array_equal(some[1], matrix)
            store = db.open(ctx, f"v{row}")
            store.upsert_arrays(ctx, *some)
            hit = store.query(ctx, matrix[7], k=1)[0]
            assert (hit.id, hit.payload) == ("v7", {"n": 7})


def test_the_items_of_a_vector_store_go_out_and_into_another(ctx: Context, tmp_path: Path) -> None:
    with VectorDatabase(ctx, tmp_path / "v") as db:
        store = db.open(ctx, "v")
        store.upsert_arrays(ctx, ["a", "b"], [[0.1, 2.0], [3.0, 4.0]], {"n": [1, 2], "s": ["x", None]})
        frame, table = frames.to_pandas(store.items(ctx)), frames.to_arrow(store.items(ctx))
        assert list(frame.columns) == table.column_names == ["id", "vector", "n", "s"]
        for name, columns in (
            ("pandas", frames.vectors_from_pandas(frame, "id", "vector")),
            ("arrow", frames.vectors_from_arrow(table, "id", "vector")),
        ):
            other = db.open(ctx, name)
            other.upsert_arrays(ctx, *columns)
            assert list(other.items(ctx)) == list(store.items(ctx))


def test_rows_that_are_none_are_refused() -> None:
    with pytest.raises(ValidationError, match="expected .* pairs, not 5"):
        frames.to_pandas([5])


@pytest.mark.parametrize(
    ("columns", "key", "message"),
    [
        ({"a": [1]}, "b", "no column 'b'"),
        ({"a": [1]}, [], "at least one column"),
        ({"a": [1], 2: [2]}, "a", "type str, not 2"),
    ],
)
def test_a_frame_that_has_no_such_key_is_refused(columns: dict, key: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        frames.from_pandas(pd.DataFrame(columns), key=key)  # type: ignore[arg-type]


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="give the key another name"):
        frames.to_pandas([(1, {"key": 2})])
    assert list(frames.to_pandas([(1, {"key": 2})], key="id").columns) == ["id", "key"]


def test_what_json_has_no_type_for_is_refused_when_stored(ctx: Context, db: Database) -> None:
    frame = pd.DataFrame({"id": [1], "when": [pd.Timestamp("2026-11-23")]})
    stored = db.open_map(ctx, "m")
    with pytest.raises(ValidationError, match="Timestamp"):
        stored.put_many(frames.from_pandas(frame, key="id"))
    assert len(stored) == 0


def test_without_pandas_and_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'sop4py\[pandas\]'"):
        frames.to_pandas([])
    with pytest.raises(ImportError, match=r"pip install 'sop4py\[arrow\]'"):
        frames.to_arrow([])
