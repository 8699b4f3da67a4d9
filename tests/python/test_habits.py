"""What Python programs expect of an object: that it pickles, closes, and shows itself."""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import sop
from redis_server import RedisServer
from sop import Context, Database, Durability, Error, Map, Redis, RedisError, StorageError, btree
from sop.ai import Item, Model, UsageMode, VectorDatabase, VectorStore
from sop.ai.langchain import SOPByteStore, SOPCache, SOPVectorStore


def again(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


# Pickling


def double(numbers: Map, key: int) -> int:
    numbers[key] = numbers[key] * 2
    return numbers[key]


def nearest(vectors: VectorStore, vector: list[float]) -> str:
    return vectors.query(Context(), vector, k=1)[0].id


def test_other_processes_work_on_what_was_pickled(ctx: Context, tmp_path: Path) -> None:
    with VectorDatabase(ctx, tmp_path / "db") as db:
        numbers = db.open_map(ctx, "numbers")
        numbers.put_many((n, n) for n in range(4))
        vectors = db.open(ctx, "vectors")
        vectors.upsert_arrays(ctx, ["x", "y"], [[1.0, 0.0], [0.0, 1.0]])
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            assert list(pool.map(double, [numbers] * 4, range(4))) == [0, 2, 4, 6]
            assert pool.submit(nearest, vectors, [0.1, 1.0]).result() == "y"
        assert list(numbers.values()) == [0, 2, 4, 6]


def test_a_database_pickles_by_path_and_options(
    ctx: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {
        "": sop.ErasureCodingConfig(1, 1, ["one", "two"]),
        "s": sop.ErasureCodingConfig(1, 1, ["three", "four"], repair_corrupted_shards=False),
    }
    db = VectorDatabase(
        ctx, "db", erasure_config=settings, usage_mode=UsageMode.BuildOnceQueryMany, memory_limit=64 << 20
    )
    monkeypatch.chdir("/")  # the folder is that of the working folder then
    copied = again(db)
    assert type(copied) is VectorDatabase
    assert copied._folder.options == db._folder.options
    assert copied.usage_mode is UsageMode.BuildOnceQueryMany
    found = Database.as_found(ctx, tmp_path / "db", mirrors=[tmp_path / "m"], drives=[tmp_path / "d"])
    assert again(found)._folder.options == found._folder.options


def test_stores_pickle_with_what_they_were_opened_with(ctx: Context, tmp_path: Path) -> None:
    with VectorDatabase(ctx, tmp_path / "db") as db:
        relaxed = db.open_map(ctx, "m", durability=Durability.Relaxed)
        assert again(relaxed)._origin.durability == Durability.Relaxed
        models = db.open_model_store(ctx, "models")
        models.save(ctx, "c", "n", Model("id"))
        assert again(models).get(ctx, "c", "n")["id"] == "id"
        files = SOPByteStore(ctx, db)
        files.mset([("a", b"1")])
        assert again(files).mget(["a"]) == [b"1"]
    with again(db) as copied:
        assert [store.name for store in copied.stores()] == [store.name for store in db.stores()]
        db.close()


def test_what_belongs_to_a_transaction_does_not_pickle(ctx: Context, tmp_path: Path) -> None:
    with VectorDatabase(ctx, tmp_path / "db") as db:
        numbers = db.open_map(ctx, "numbers")
        with db.begin_transaction(ctx) as t:
            for thing in (
                t,
                btree.Btree.open(ctx, "numbers", t),
                numbers.with_transaction(t),
                db.open_vector_store(ctx, t, "v"),
                db.open_model_store(ctx, t, "m"),
            ):
                with pytest.raises(TypeError, match="cannot be pickled"):
                    pickle.dumps(thing)


def test_a_context_pickles_as_a_new_one(ctx: Context) -> None:
    mine = Context()
    mine.cancel()
    assert again(mine).is_valid()
    assert again(ctx).id != ctx.id


# Closing


def test_stores_close_at_the_end_of_a_with_block(ctx: Context, tmp_path: Path) -> None:
    with VectorDatabase(ctx, tmp_path / "db") as db:
        with db.open(ctx, "v") as vectors, db.open_model_store(ctx, "m") as models:
            vectors.upsert(ctx, Item("x", [1.0]))
            models.save(ctx, "c", "n", Model("id"))
        with db.begin_transaction(ctx) as t:
            with btree.Btree.new(ctx, btree.BtreeOptions("b", is_unique=True), t) as tree:
                tree.add(ctx, 1, "one")
            with pytest.raises(Error):
                tree.add(ctx, 2, "two")
        for call in (lambda: vectors.count(ctx), lambda: models.list(ctx, "c")):
            with pytest.raises(Error):
                call()
        with db.open_map(ctx, "b") as numbers:
            assert dict(numbers) == {1: "one"}
        for call in (lambda: numbers.get(1), lambda: numbers[1], lambda: len(numbers), numbers.clear):
            with pytest.raises(StorageError, match="was closed"):
                call()
        for store in (vectors, models, tree, numbers):
            store.close()
        assert db.open(ctx, "v").count(ctx) == 1


def test_a_context_is_cancelled_at_the_end_of_its_block() -> None:
    with Context() as ctx:
        assert ctx.is_valid()
    assert not ctx.is_valid()


def test_the_redis_connection_closes_at_the_end_of_its_block(redis_server: RedisServer) -> None:
    with Redis.open_connection(redis_server.url):
        pass
    with pytest.raises(RedisError):
        Redis.open_connection("redis://localhost:1")


# Showing


def test_reprs_say_what_it_is_and_never_raise(ctx: Context, tmp_path: Path) -> None:
    path = tmp_path / "db"
    db = VectorDatabase(ctx, path)
    assert repr(db) == f"<sop.VectorDatabase '{path}', Standalone>"
    assert not path.exists()
    numbers = db.open_map(ctx, "n")
    assert repr(numbers) == f"<sop.Map 'n' of {db!r}>"
    assert repr(db.open(ctx, "v")) == f"<sop.ai.VectorStore 'v' of '{path}'>"
    assert repr(db.open_model_store(ctx, "m")) == f"<sop.ai.ModelStore 'm' of '{path}'>"
    with db.begin_transaction(ctx) as t:
        tree = btree.Btree.open(ctx, "n", t)
        assert repr(tree) == "<sop.Btree 'n', unique>"
        assert repr(t) == f"<sop.Transaction on '{path}', open>"
        assert repr(numbers.with_transaction(t)).endswith(" in a transaction>")
    assert repr(t) == f"<sop.Transaction on '{path}', ended>"
    tree.close()
    db.close()
    assert repr(tree) == "<sop.Btree, closed>"
    assert repr(sop.Transaction(ctx, sop.TransactionOptions(stores_folders=[str(path)]))).endswith(
        "not begun>"
    )
    mine = Context()
    mine.cancel()
    assert repr(mine).endswith(", cancelled>")


def test_the_adapters_of_langchain_say_what_they_are(ctx: Context, db: Database) -> None:
    texts = SOPVectorStore(ctx, db, "notes", None)
    assert repr(texts) == f"<sop.ai.SOPVectorStore 'notes' of {db!r}>"
    with db.begin_transaction(ctx) as t:
        assert repr(texts.with_transaction(t)).endswith(" in a transaction>")
    for made in (SOPByteStore, SOPCache):
        assert repr(made(ctx, db, "m")) == f"<sop.ai.langchain.{made.__name__} on <sop.Map 'm' of {db!r}>>"


def test_a_long_vector_shows_its_first_numbers() -> None:
    assert repr(Item("a", [0.5], {"n": 1})) == "Item(id='a', vector=[0.5], payload={'n': 1}, centroid_id=0)"
    shown = repr(Item("a", [0.5] * 768, None, 7))
    assert shown == f"Item(id='a', vector=[{'0.5, ' * 8}... 768 numbers], payload=None, centroid_id=7)"
    assert repr(Item("a", None)).startswith("Item(id='a', vector=None")  # type: ignore[arg-type]


def test_notebooks_show_tables_in_which_data_is_text(ctx: Context, tmp_path: Path) -> None:
    db = VectorDatabase(ctx, tmp_path / "<db>")
    assert "<table>" not in db._repr_html_() and "&lt;db&gt;" in db._repr_html_()
    assert not (tmp_path / "<db>").exists()
    numbers = db.open_map(ctx, "<n>")
    numbers.put_many((n, "<b>" + "x" * 1000) for n in range(20))
    html = numbers._repr_html_()
    assert "&lt;n&gt;: 20 items" in html and html.count("<tr>") == 11 and "<b>" not in html
    assert len(html) < 4000
    shown = db._repr_html_()
    assert "<td>btree</td><td>&lt;n&gt;</td><td>20</td>" in shown
    with db.begin_transaction(ctx) as t:
        assert "in a transaction" in numbers.with_transaction(t)._repr_html_()
    vectors = db.open(ctx, "v")
    vectors.upsert(ctx, Item("<x>", [1.0], {"a": 1}))
    hits = vectors.query(ctx, [1.0])
    assert "<td>&lt;x&gt;</td><td>1.0</td>" in hits._repr_html_()
    assert "<td>intact</td><td>True</td>" in db.verify(ctx)._repr_html_()
    assert "<td>count</td><td>1</td>" in vectors.stats(ctx)._repr_html_()
    assert "v: 1 vectors of 1 numbers" in vectors._repr_html_()
    assert "<td>&lt;x&gt;</td><td>[1.0]</td>" in vectors._repr_html_()
    models = db.open_model_store(ctx, "m")
    models.save(ctx, "c", "<m>", Model("one", is_active=True))
    models.save(ctx, "c", "<m>", Model("two"))
    assert "<td>c</td><td>&lt;m&gt;</td><td>2</td><td>1</td>" in models._repr_html_()
    with db.begin_transaction(ctx) as t:
        for inside in (vectors.with_transaction(t), db.open_model_store(ctx, t, "m")):
            assert inside._repr_html_().endswith("in a transaction&gt;")
    models.close()
    vectors.close()
    assert "<table>" not in models._repr_html_() + vectors._repr_html_()
    db.close()
    assert "was closed" in numbers._repr_html_()


def test_looking_at_a_map_in_a_notebook_meets_no_writer(ctx: Context, db: Database) -> None:
    numbers = db.open_map(ctx, "n")
    numbers[1] = 1
    with db.begin_transaction(ctx) as t:
        inside = numbers.with_transaction(t)
        inside._repr_html_()
        numbers[1] = 2
        inside[2] = 2
    assert dict(numbers) == {1: 2, 2: 2}


# Looking around


def test_help_of_a_map_is_that_of_its_class(ctx: Context, db: Database) -> None:
    """`get`, `page`, `put` and `modify` of a map are functions of the library."""
    numbers = db.open_map(ctx, "n")
    for name in dir(Map):
        if name[0] != "_" and callable(getattr(Map, name)):
            of_class, of_map = getattr(Map, name), getattr(numbers, name)
            parameters = list(inspect.signature(of_class).parameters.values())[1:]
            plain = [one.replace(annotation=one.empty) for one in parameters]
            found = inspect.signature(of_map).parameters.values()
            assert [one.replace(annotation=one.empty) for one in found] == plain, name
            assert inspect.getdoc(of_map) == inspect.getdoc(of_class), name


def test_what_is_there_is_found_by_completion() -> None:
    assert sop.aio.Database and sop.frames.to_pandas
    for module in (sop, sop.ai):
        assert set(module.__all__) <= set(dir(module))
        assert all(getattr(module, name) is not None for name in dir(module))
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            module.nothing  # noqa: B018


def test_every_public_class_and_call_has_a_docstring() -> None:
    for module in (sop, sop.ai, sop.frames, sop.aio, sop.maintenance, sop.ai.langchain):
        for name in module.__all__:
            thing = getattr(module, name)
            if isinstance(thing, type) and thing.__module__.startswith("sop"):
                assert thing.__doc__, name
                for call, member in vars(thing).items():
                    if call[0] != "_" and inspect.isroutine(member):
                        assert inspect.getdoc(getattr(thing, call)), f"{name}.{call}"


def test_stores_are_collections(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        tree = btree.Btree.new(ctx, btree.BtreeOptions("b"), t)
        assert tree and len(tree) == 0 and list(tree) == [] and 1 not in tree
        tree.add(ctx, [btree.Item(2, "two"), btree.Item(1, None), btree.Item(2, "again")])
        assert len(tree) == 3 and 1 in tree and 2 in tree and 3 not in tree and list(tree) == [1, 2, 2]
        tree.find(ctx, 1)
        assert 2 in tree and tree.get_current_key(ctx) == 1
        with pytest.raises(sop.BtreeError):
            object() in tree  # noqa: B015
        vectors = db.open_vector_store(ctx, t, "v")
        vectors.upsert(ctx, Item("x", [1.0]))
        assert vectors["x"] == vectors.get(ctx, "x")
        with pytest.raises(KeyError) as raised:
            vectors["y"]
        assert isinstance(raised.value, sop.ItemNotFoundError) and str(raised.value) == "item not found: y"


def test_errors_pickle_with_what_they_carry(ctx: Context, db: Database) -> None:
    """As a process of a pool hands them over."""
    vectors = VectorDatabase(ctx, db.storage_path).open(ctx, "v")
    with db.begin_transaction(ctx) as t:
        for call in (
            lambda: vectors.get(ctx, "y"),
            lambda: db.open_btree(ctx, "none", t),
            lambda: vectors.get(ctx, 5),
        ):
            with pytest.raises(Error) as raised:
                call()
            copied = again(raised.value)
            assert type(copied) is type(raised.value) and str(copied) == str(raised.value)
            assert (copied.code, copied.retryable) == (raised.value.code, raised.value.retryable)
            assert copied.details == raised.value.details


# Logging


def test_the_logger_is_silent_until_a_program_wants_it() -> None:
    assert [type(handler) for handler in logging.getLogger("sop").handlers] == [logging.NullHandler]


def test_what_was_done_and_found_is_told(
    ctx: Context,
    db: Database,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, "sop")
    monkeypatch.setattr("sop.transaction.SLOW_COMMIT", 0.0)
    with db.begin_transaction(ctx) as t:
        btree.Btree.new(ctx, btree.BtreeOptions("b", is_unique=True), t).add(ctx, 1, "x" * 100_000)
    db.backup(ctx, tmp_path / "copy")
    db.compact(ctx)
    assert db.verify(ctx).intact
    db.close()
    for segment in (tmp_path / "db" / "seg").iterdir():
        segment.write_bytes(b"\0" * segment.stat().st_size)
    assert not db.verify(ctx).intact
    told = [(record.levelname, record.getMessage().split(" ")[0:3]) for record in caplog.records]
    assert told == [
        ("WARNING", ["a", "commit", "on"]),
        ("INFO", ["backed", "up", f"{tmp_path / 'db'}:"]),
        ("INFO", ["compacted", str(tmp_path / "db"), "from"]),
        ("WARNING", ["a", "verification", "of"]),
    ]
