"""`progress=`: every long call tells how far it is; what the function raises stops it and leaves nothing."""

from __future__ import annotations

import inspect
import io
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import pytest

import sop
from sop import (
    BtreeOptions,
    Context,
    Map,
    Transaction,
    ValidationError,
    btree,
)
from sop._progress import counted, steps
from sop.ai import Item, ModelStore, SOPVectorStore, VectorDatabase, VectorStore
from sop.frames import to_arrow, to_pandas

ROWS = 2500
IDS = [f"{n:05}" for n in range(ROWS)]
VECTORS = [[float(n), 1.0] for n in range(ROWS)]
PAIRS = [(n, "x" * 10) for n in range(ROWS)]
MEBIBYTE = bytes(1 << 20)


class EnoughError(Exception):
    """What a progress function raises here."""


class Embedding:
    """Lengths of texts."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(len(text)), 1.0] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [float(len(text)), 1.0]


class World(NamedTuple):
    """A database with something in each kind of store, and an open transaction."""

    ctx: Context
    db: VectorDatabase
    trans: Transaction
    numbers: Map
    vectors: VectorStore
    models: ModelStore
    texts: SOPVectorStore
    folder: Path

    def tree(self) -> btree.Btree[Any, Any]:
        return btree.Btree.open(self.ctx, "tree", self.trans)

    def contents(self, of_transaction: bool) -> Any:
        """What is in the stores, as committed or as the transaction has it."""
        trans = self.trans if of_transaction else self.db.begin_transaction(self.ctx)
        tree = btree.Btree.open(self.ctx, "tree", trans)
        numbers, vectors = self.numbers.with_transaction(trans), self.vectors.with_transaction(trans)
        texts = self.db.open_vector_store(self.ctx, trans, "texts")
        models = self.db.open_model_store(self.ctx, trans, "models")
        found = [
            [item.key for item in tree.items(self.ctx)],
            list(numbers.items()),
            list(vectors.items(self.ctx)),
            list(texts.ids(self.ctx)),
            models.versions(self.ctx, "c", "m"),
        ]
        if not of_transaction:
            trans.rollback(self.ctx)
        return found


@pytest.fixture
def world(ctx: Context, tmp_path: Path) -> Iterator[World]:
    with VectorDatabase(ctx, tmp_path / "db") as db:
        with db.begin_transaction(ctx) as t:
            tree = btree.Btree.new(ctx, BtreeOptions("tree", is_unique=True), t)
            tree.add(ctx, [btree.Item(n, "x") for n in range(ROWS)])
        numbers = db.open_map(ctx, "numbers")
        numbers.put_many(PAIRS)
        vectors = db.open(ctx, "vectors")
        vectors.upsert_arrays(ctx, IDS, VECTORS)
        models = db.open_model_store(ctx, "models")
        models.save(ctx, "c", "m", {"a": 1}, MEBIBYTE * 5)
        texts = SOPVectorStore(ctx, db, "texts", Embedding())
        texts.add_texts(["a"] * 250, ids=[f"t{n:03}" for n in range(250)])
        trans = db.begin_transaction(ctx)
        yield World(ctx, db, trans, numbers, vectors, models, texts, tmp_path)


class Long(NamedTuple):
    """A call: the class and the name it has, how it is made, and its last figure."""

    of: Any
    name: str
    call: Callable[[World, Any], Any]
    total: int
    is_write: bool = True
    # In the open transaction, which ends when the call is stopped.
    inside: bool = False


NEW = [btree.Item(n, "new") for n in range(ROWS, 2 * ROWS)]
OLD = [btree.Item(n, "new") for n in range(ROWS)]
KEYS = list(range(ROWS))
FRESH = [f"new{n:05}" for n in range(ROWS)]
ITEMS = [Item(id, vector) for id, vector in zip(FRESH, VECTORS)]
PINNED = [Item(id, vector, None, 7) for id, vector in zip(FRESH, VECTORS)]

CALLS = {
    "btree add": Long(
        btree.Btree, "add", lambda w, p: w.tree().add(w.ctx, NEW, progress=p), ROWS, inside=True
    ),
    "btree add_if_not_exists": Long(
        btree.Btree,
        "add_if_not_exists",
        lambda w, p: w.tree().add_if_not_exists(w.ctx, NEW, progress=p),
        ROWS,
        inside=True,
    ),
    "btree update": Long(
        btree.Btree, "update", lambda w, p: w.tree().update(w.ctx, OLD, progress=p), ROWS, inside=True
    ),
    "btree upsert": Long(
        btree.Btree, "upsert", lambda w, p: w.tree().upsert(w.ctx, NEW, progress=p), ROWS, inside=True
    ),
    "btree remove": Long(
        btree.Btree, "remove", lambda w, p: w.tree().remove(w.ctx, KEYS, progress=p), ROWS, inside=True
    ),
    "btree get_values": Long(
        btree.Btree, "get_values", lambda w, p: w.tree().get_values(w.ctx, KEYS, progress=p), ROWS, False
    ),
    "map put_many": Long(Map, "put_many", lambda w, p: w.numbers.put_many(dict(PAIRS), progress=p), ROWS),
    "map put_many in a transaction": Long(
        Map,
        "put_many",
        lambda w, p: w.numbers.with_transaction(w.trans).put_many(
            ((key + 1, value) for key, value in PAIRS), progress=p
        ),
        ROWS,
        inside=True,
    ),
    "map remove_many": Long(Map, "remove_many", lambda w, p: w.numbers.remove_many(KEYS, progress=p), ROWS),
    "map clear": Long(Map, "clear", lambda w, p: w.numbers.clear(progress=p), ROWS),
    "map get_many": Long(Map, "get_many", lambda w, p: w.numbers.get_many(KEYS, progress=p), ROWS, False),
    "upsert_batch": Long(
        VectorStore, "upsert_batch", lambda w, p: w.vectors.upsert_batch(w.ctx, ITEMS, progress=p), ROWS
    ),
    "upsert_batch in a transaction": Long(
        VectorStore,
        "upsert_batch",
        lambda w, p: w.vectors.with_transaction(w.trans).upsert_batch(w.ctx, PINNED, progress=p),
        ROWS,
        inside=True,
    ),
    "upsert_arrays": Long(
        VectorStore,
        "upsert_arrays",
        lambda w, p: w.vectors.upsert_arrays(w.ctx, FRESH, VECTORS, progress=p),
        ROWS,
    ),
    "upsert_arrays in a transaction": Long(
        VectorStore,
        "upsert_arrays",
        lambda w, p: w.vectors.with_transaction(w.trans).upsert_arrays(w.ctx, FRESH, VECTORS, progress=p),
        ROWS,
        inside=True,
    ),
    "vectors delete": Long(
        VectorStore, "delete", lambda w, p: w.vectors.delete(w.ctx, IDS, progress=p), ROWS
    ),
    "vectors get_many": Long(
        VectorStore, "get_many", lambda w, p: w.vectors.get_many(w.ctx, IDS, progress=p), ROWS, False
    ),
    "vectors get_arrays": Long(
        VectorStore, "get_arrays", lambda w, p: w.vectors.get_arrays(w.ctx, progress=p), ROWS, False
    ),
    "query_arrays": Long(
        VectorStore,
        "query_arrays",
        lambda w, p: w.vectors.query_arrays(w.ctx, VECTORS[:250], 3, progress=p),
        250,
        False,
    ),
    "add_texts": Long(
        SOPVectorStore, "add_texts", lambda w, p: w.texts.add_texts(["b"] * 250, progress=p), 250
    ),
    "from_texts": Long(
        SOPVectorStore,
        "from_texts",
        lambda w, p: SOPVectorStore.from_texts(
            ["b"] * 250, Embedding(), ctx=w.ctx, db=w.db, collection_name="texts", progress=p
        ),
        250,
    ),
    "texts delete": Long(SOPVectorStore, "delete", lambda w, p: w.texts.delete(progress=p), 250),
    "model save": Long(
        ModelStore,
        "save",
        lambda w, p: w.models.save(w.ctx, "c", "m", {}, io.BytesIO(MEBIBYTE * 5), progress=p),
        5 << 20,
    ),
    "model artifact": Long(
        ModelStore, "artifact", lambda w, p: w.models.artifact(w.ctx, "c", "m", progress=p), 5 << 20, False
    ),
    "model download": Long(
        ModelStore,
        "download",
        lambda w, p: w.models.download(w.ctx, "c", "m", w.folder / "file", progress=p),
        5 << 20,
        False,
    ),
    "to_pandas": Long(sop.frames, "to_pandas", lambda w, p: to_pandas(w.numbers, progress=p), ROWS, False),
    "to_arrow": Long(sop.frames, "to_arrow", lambda w, p: to_arrow(w.numbers, progress=p), ROWS, False),
}

# The library itself counts: test_cli, test_vector, test_redundancy. Estimators: test_model_versions.
COUNTED_BY_THE_LIBRARY = {"verify", "backup", "compact", "scrub", "repair", "reinstate", "optimize", "load"}


@pytest.mark.parametrize("name", CALLS)
def test_a_long_call_tells_how_far_it_is(world: World, name: str) -> None:
    told: list[tuple[int, int]] = []
    CALLS[name].call(world, lambda *figures: told.append(figures))
    assert told and told == sorted(told)
    assert all(0 < done <= total for done, total in told)
    assert told[-1] == (CALLS[name].total, CALLS[name].total)


@pytest.mark.parametrize("name", CALLS)
def test_it_does_the_same_with_and_without(world: World, name: str) -> None:
    long = CALLS[name]
    with_progress = _plain(long.call(world, lambda *_: None))
    done = world.contents(long.inside)
    if long.inside:
        world.trans.rollback(world.ctx)
        world = world._replace(trans=world.db.begin_transaction(world.ctx))
    elif long.is_write:
        return  # what it wrote is there now
    assert _plain(long.call(world, None)) == with_progress
    assert world.contents(long.inside) == done


def _plain(answer: Any) -> Any:
    for method in ("to_pylist", "to_dict"):
        if hasattr(answer, method):
            return getattr(answer, method)()
    return [_plain(part) for part in answer] if isinstance(answer, tuple) else _list(answer)


def _list(answer: Any) -> Any:
    return answer.tolist() if hasattr(answer, "tolist") else answer


@pytest.mark.parametrize("name", CALLS)
def test_what_it_raises_stops_the_call_and_nothing_half_is_left(world: World, name: str) -> None:
    long = CALLS[name]
    before = world.contents(False)

    def stop(done: int, total: int) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        long.call(world, stop)
    with suppress(sop.Error):  # it ended, if a part was written
        world.trans.commit(world.ctx)
    assert world.contents(False) == before
    assert not [path for path in world.folder.iterdir() if path.name.startswith("file")]


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_function_is_refused(world: World, name: str) -> None:
    before = world.contents(False)
    with pytest.raises(ValidationError, match="progress must be callable"):
        CALLS[name].call(world, 5)
    assert world.contents(False) == before


def test_every_call_that_takes_progress_is_tested() -> None:
    classes = (sop.Database, Map, btree.Btree, VectorStore, ModelStore, SOPVectorStore, sop.frames)
    taking = {
        (of, name)
        for of in classes
        for name, member in inspect.getmembers(of, inspect.isroutine)
        if name in getattr(of, "__all__", [name])
        and name[0] != "_"
        and "progress" in inspect.signature(member).parameters
    }
    tested = {(long.of, long.name) for long in CALLS.values()}
    assert {(of, name) for of, name in taking - tested if name not in COUNTED_BY_THE_LIBRARY} == set()
    assert tested - taking == set()


def test_a_write_in_steps_is_run_again_after_a_conflict(ctx: Context, world: World) -> None:
    """Without `progress` it is, too."""
    told: list[int] = []

    def meet(done: int, total: int) -> None:
        told.append(done)
        if len(told) == 1:
            world.vectors.upsert(ctx, Item(FRESH[0], [9.0, 9.0]))

    world.vectors.upsert_arrays(ctx, FRESH, VECTORS, progress=meet)
    assert told == [1000, 2000, 2500, 1000, 2000, 2500]
    assert world.vectors.get(ctx, FRESH[0]).vector == VECTORS[0]


def test_reads_in_steps_are_of_one_snapshot(ctx: Context, world: World) -> None:
    def change(done: int, total: int) -> None:
        world.vectors.delete(ctx, IDS)
        world.numbers.clear()

    for read in (
        lambda: world.vectors.query_arrays(ctx, VECTORS[:250], 1, progress=change)[0],
        lambda: world.vectors.get_many(ctx, IDS, progress=change),
        lambda: world.numbers.get_many(KEYS, progress=change),
    ):
        assert all(read())
        world.vectors.upsert_arrays(ctx, IDS, VECTORS)
        world.numbers.put_many(PAIRS)


def test_steps_and_counts() -> None:
    told: list[tuple[int, int]] = []

    def tell(*figures: int) -> None:
        told.append(figures)  # type: ignore[arg-type]

    assert list(steps(5, None)) == [slice(0, 5)] and list(steps(0, tell)) == [slice(0, 0)]
    assert list(steps(5, tell, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert told == [(2, 5), (4, 5), (5, 5)]
    told.clear()
    assert list(counted(iter(range(2000)), tell)) == list(range(2000))
    assert told == [(1000, 2000), (2000, 2000)]  # an iterator of a range knows its length
    told.clear()
    assert len(list(counted((n for n in range(1500)), tell))) == 1500
    assert told == [(1000, 1000), (1500, 1500)]
    told.clear()
    assert list(counted([], tell)) == [] and told == []
    assert counted(told, None) is told


class Bar:
    """What a bar of tqdm has."""

    total = 0
    n = 0

    def update(self, more: int) -> None:
        self.n += more


def test_a_bar_fits(ctx: Context, world: World) -> None:
    bar = Bar()

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    world.vectors.upsert_arrays(ctx, FRESH, VECTORS, progress=show)
    assert (bar.n, bar.total) == (ROWS, ROWS)
