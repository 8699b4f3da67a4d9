"""upsert_arrays and query_arrays: every kind of matrix, payload columns, NumPy and no NumPy."""

from __future__ import annotations

import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from conftest import environment
from sop import Context, DimensionMismatchError, ValidationError
from sop.ai import VectorDatabase, VectorStore
from sop.ai._arrays import float_matrix

np = pytest.importorskip("numpy")

ROWS = [[1.0, 2.0, 3.0], [-4.0, 5.5, 6.0]]


@pytest.fixture
def store(ctx: Context, tmp_path: Path):
    with VectorDatabase(ctx, storage_path=tmp_path / "db") as vdb:
        yield vdb.open(ctx, "rows")


def read_only(matrix):
    matrix.flags.writeable = False
    return matrix


MATRICES = {
    "lists": lambda: ROWS,
    "tuples": lambda: tuple(tuple(row) for row in ROWS),
    "generator": lambda: (row for row in ROWS),
    "arrays of float": lambda: [array("f", row) for row in ROWS],
    "arrays of double": lambda: [array("d", row) for row in ROWS],
    "rows of numpy": lambda: list(np.array(ROWS, dtype=np.float32)),
    "float32": lambda: np.array(ROWS, dtype=np.float32),
    "read only": lambda: read_only(np.array(ROWS, dtype=np.float32)),
    "float64": lambda: np.array(ROWS),
    "float16": lambda: np.array(ROWS, dtype=np.float16),
    "big endian": lambda: np.array(ROWS, dtype=">f4"),
    "fortran order": lambda: np.asfortranarray(np.array(ROWS, dtype=np.float32)),
    "strided": lambda: np.repeat(np.array(ROWS, dtype=np.float32), 2, axis=0)[::2],
    "memoryview": lambda: memoryview(np.array(ROWS, dtype=np.float32)),
    "memoryview of double": lambda: memoryview(np.array(ROWS)),
    "memoryview of bytes": lambda: memoryview(np.array(ROWS, dtype=np.float32).tobytes()).cast("f", (2, 3)),
    "strided memoryview": lambda: memoryview(np.asfortranarray(np.array(ROWS, dtype=np.float32))),
}


@pytest.mark.parametrize("kind", MATRICES)
def test_every_kind_of_matrix(ctx: Context, store: VectorStore, kind: str) -> None:
    store.upsert_arrays(ctx, ["a", "b"], MATRICES[kind]())
    assert [store.get(ctx, id).vector for id in "ab"] == ROWS
    ids, scores = store.query_arrays(ctx, MATRICES[kind](), 1)
    assert ids == [["a"], ["b"]]
    assert [row[0] for row in scores] == pytest.approx([1, 1])


VECTORS = {
    "list": lambda: ROWS[1],
    "tuple": lambda: tuple(ROWS[1]),
    "integers": lambda: [-4, 5.5, 6],
    "array of float": lambda: array("f", ROWS[1]),
    "array of double": lambda: array("d", ROWS[1]),
    "float32": lambda: np.array(ROWS[1], dtype=np.float32),
    "read only": lambda: read_only(np.array(ROWS[1], dtype=np.float32)),
    "float64": lambda: np.array(ROWS[1]),
    "float16": lambda: np.array(ROWS[1], dtype=np.float16),
    "big endian": lambda: np.array(ROWS[1], dtype=">f4"),
    "numbers of numpy": lambda: list(np.array(ROWS[1], dtype=np.float32)),
    "strided": lambda: np.repeat(np.array(ROWS[1], dtype=np.float32), 2)[::2],
    "memoryview": lambda: memoryview(np.array(ROWS[1], dtype=np.float32)),
    "generator": lambda: (number for number in ROWS[1]),
}


@pytest.mark.parametrize("kind", VECTORS)
def test_every_kind_of_vector(ctx: Context, store: VectorStore, kind: str) -> None:
    store.upsert_arrays(ctx, ["a", "b"], ROWS, {"n": [1, 2]})
    hit = store.query(ctx, VECTORS[kind](), 1)[0]
    assert (hit.id, hit.payload) == ("b", {"n": 2})
    assert hit.score == pytest.approx(1)


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        7,
        "abc",
        b"abc",
        {"a": 1.0},
        [None, 1.0, 2.0],
        ["1", 1.0, 2.0],
        [[1.0], [2.0], [3.0]],
        [float("nan"), 1.0, 2.0],
        (1.0, float("inf"), 2.0),
        [1e39, 1.0, 2.0],
        [10**400, 1.0, 2.0],
        np.array([1.0, np.nan, 2.0], dtype=np.float32),
        np.array([1.0, -np.inf, 2.0], dtype=np.float32),
        np.zeros((1, 3), dtype=np.float32),
        np.zeros((), dtype=np.float32),
        np.array(["a", "b", "c"]),
        np.array([1j, 2j, 3j]),
        [],
        np.zeros(0, dtype=np.float32),
    ],
    ids=repr,
)
def test_what_is_no_vector_is_no_query(ctx: Context, store: VectorStore, wrong: object) -> None:
    store.upsert_arrays(ctx, ["a", "b"], ROWS)
    with pytest.raises(ValidationError):
        store.query(ctx, wrong)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(3), np.zeros((1, 2, 3)), np.zeros((1, 2)), np.zeros((1, 0)), np.zeros((2, 3), dtype="U1")],
)
def test_what_is_no_matrix_is_no_query(ctx: Context, store: VectorStore, wrong: np.ndarray) -> None:
    store.upsert_arrays(ctx, ["a", "b"], ROWS)
    for matrix in (wrong, wrong.astype(np.float32) if wrong.dtype.kind == "f" else wrong):
        with pytest.raises(ValidationError):
            store.query_arrays(ctx, matrix, 1)


def test_a_payload_that_is_none_stores_nothing(ctx: Context, store: VectorStore) -> None:
    matrix = np.array(ROWS, dtype=np.float32)
    for wrong in ({"a": float("nan")}, {"a": b"bytes"}, {"a": "\ud800"}, {1: object()}, object()):
        with pytest.raises(ValidationError):
            store.upsert_arrays(ctx, ["a", "b"], matrix, [{"fine": 1}, wrong])
    assert store.count(ctx) == 0
    store.upsert_arrays(ctx, ["a", "b"], matrix, [{1: "one", "t": (1, 2)}, {"n": np.float32(0.5)}])
    assert [store.get(ctx, id).payload for id in "ab"] == [{"1": "one", "t": [1, 2]}, {"n": 0.5}]


def test_ids_that_are_not_plain_texts(ctx: Context, store: VectorStore) -> None:
    class Name(str):
        pass

    matrix = np.array(ROWS, dtype=np.float32)
    for ids in ((Name("é"), "b"), np.array(["é", "b"]), iter(["é", "b"])):
        store.upsert_arrays(ctx, ids, matrix)
        assert store.query_arrays(ctx, matrix, 1)[0] == [["é"], ["b"]]
    for wrong in (["a", ""], ["a", "x" * 5000], ["a", "\ud800"], ["a", None], ["a", b"b"], {"a", "b"}, "ab"):
        with pytest.raises(ValidationError):
            store.upsert_arrays(ctx, wrong, matrix)
    assert store.count(ctx) == 2


def test_integers_are_numbers(ctx: Context, store: VectorStore) -> None:
    store.upsert_arrays(ctx, ["a"], np.array([[1, 2]]))
    store.upsert_arrays(ctx, ["b"], [[1, 2]])
    assert store.get(ctx, "a").vector == store.get(ctx, "b").vector == [1.0, 2.0]


def test_float32_in_c_order_is_not_copied() -> None:
    matrix = np.array(ROWS, dtype=np.float32)
    assert float_matrix(matrix, "m").address == matrix.ctypes.data
    assert float_matrix(memoryview(matrix), "m").address == matrix.ctypes.data
    assert float_matrix(read_only(matrix), "m").address == matrix.ctypes.data
    assert float_matrix(matrix.astype(np.float64), "m").address != matrix.ctypes.data


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        7,
        "text",
        b"bytes",
        [1.0, 2.0],
        [None],
        [["a", "b"]],
        [[1.0], None],
        [[1.0, float("nan")]],
        [[1.0, float("inf")]],
        [[1.0, 1e300]],
        np.zeros(3),
        np.zeros((2, 3, 4)),
        np.array([["a", "b"]]),
        np.array([[1 + 2j]]),
        np.array([[1.0, np.nan]]),
        np.array([[1e300, 1.0]]),
        np.zeros((1, 0), dtype=np.float32),
        array("f", [1.0, 2.0]),
        [[]],
    ],
    ids=repr,
)
def test_what_is_no_matrix(ctx: Context, store: VectorStore, wrong: object) -> None:
    with pytest.raises(ValidationError):
        store.upsert_arrays(ctx, ["a"], wrong)
    assert store.count(ctx) == 0


def test_rows_of_different_length(ctx: Context, store: VectorStore) -> None:
    with pytest.raises(DimensionMismatchError):
        store.upsert_arrays(ctx, ["a", "b"], [[1.0, 2.0], [1.0]])
    store.upsert_arrays(ctx, ["a"], [[1.0, 2.0]])
    with pytest.raises(DimensionMismatchError):
        store.upsert_arrays(ctx, ["b"], np.zeros((1, 3), dtype=np.float32))


def test_ids_and_payloads_must_match_the_rows(ctx: Context, store: VectorStore) -> None:
    for call in (
        lambda: store.upsert_arrays(ctx, ["a"], ROWS),
        lambda: store.upsert_arrays(ctx, ["a", "b", "c"], ROWS),
        lambda: store.upsert_arrays(ctx, ["a", "b"], ROWS, payloads=[{}]),
        lambda: store.upsert_arrays(ctx, ["a", "b"], ROWS, payloads={"n": [1]}),
        lambda: store.upsert_arrays(ctx, ["a", 7], ROWS),
    ):
        with pytest.raises(ValidationError):
            call()
    assert store.count(ctx) == 0


def test_payloads_are_rows_or_columns(ctx: Context, store: VectorStore) -> None:
    store.upsert_arrays(ctx, ["a", "b"], ROWS, payloads=[{"n": 1}, None])
    assert [store.get(ctx, id).payload for id in "ab"] == [{"n": 1}, None]
    columns = {"n": np.arange(2), "name": ["x", "y"], "price": np.array([1.5, 2.5])}
    store.upsert_arrays(ctx, np.array(["a", "b"]), ROWS, payloads=columns)
    assert [store.get(ctx, id).payload for id in "ab"] == [
        {"n": 0, "name": "x", "price": 1.5},
        {"n": 1, "name": "y", "price": 2.5},
    ]


def test_no_rows_are_nothing(ctx: Context, store: VectorStore) -> None:
    store.upsert_arrays(ctx, [], [])
    store.upsert_arrays(ctx, [], np.zeros((0, 3), dtype=np.float32))
    assert store.count(ctx) == 0
    assert store.query_arrays(ctx, [], 5) == ([], [])
    ids, scores = store.query_arrays(ctx, np.zeros((0, 3), dtype=np.float32), 5)
    assert (ids, scores.shape) == ([], (0, 5))


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_many_queries_answer_as_one_by_one(ctx: Context, store: VectorStore, threads: int) -> None:
    vectors = np.random.default_rng(3).standard_normal((3000, 16), dtype=np.float32)
    ids = [f"r{row}" for row in range(len(vectors))]
    store.upsert_arrays(ctx, ids, vectors, payloads={"even": [row % 2 == 0 for row in range(len(vectors))]})
    store.optimize(ctx)
    queries = vectors[:50] + 0.01
    for filter in (None, {"even": True}):
        found, scores = store.query_arrays(ctx, queries, 5, filter=filter, threads=threads, exact=True)
        assert scores.shape == (50, 5)
        assert scores.dtype == np.float32
        for row, query in enumerate(queries):
            hits = store.query(ctx, query, 5, filter, exact=True)
            assert found[row] == [hit.id for hit in hits]
            assert scores[row] == pytest.approx([hit.score for hit in hits])


def test_fewer_hits_than_k(ctx: Context, store: VectorStore) -> None:
    store.upsert_arrays(ctx, ["a", "b"], ROWS, payloads={"n": [1, 2]})
    ids, scores = store.query_arrays(ctx, np.array(ROWS, dtype=np.float32), 4)
    assert [len(row) for row in ids] == [2, 2]
    assert np.isnan(scores[:, 2:]).all()
    assert not np.isnan(scores[:, :2]).any()
    ids, scores = store.query_arrays(ctx, ROWS, 4, filter={"n": 1})
    assert ids == [["a"], ["a"]]
    assert [len(row) for row in scores] == [1, 1]
    assert store.query_arrays(ctx, ROWS, 0) == ([[], []], [[], []])
    ids, scores = store.query_arrays(ctx, np.array(ROWS, dtype=np.float32), 10**9)
    assert [len(row) for row in ids] == [2, 2]


def test_inside_a_transaction(ctx: Context, store: VectorStore, tmp_path: Path) -> None:
    with VectorDatabase(ctx, storage_path=tmp_path / "db") as vdb:
        t = vdb.begin_transaction(ctx)
        inside = vdb.open_vector_store(ctx, t, "rows")
        inside.upsert_arrays(ctx, ["a", "b"], ROWS)
        assert inside.query_arrays(ctx, ROWS, 1)[0] == [["a"], ["b"]]
        t.rollback(ctx)
    assert store.count(ctx) == 0


def test_without_numpy(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['numpy'] = None\n"
        "import sop, sop.ai\n"
        "ctx = sop.Context()\n"
        f"store = sop.ai.VectorDatabase(ctx, storage_path={str(tmp_path)!r}).open(ctx, 'v')\n"
        "store.upsert_arrays(ctx, ['a', 'b'], [[1.0, 0.0], [0.0, 1.0]], {'n': [1, 2]})\n"
        "print(store.query_arrays(ctx, [[1.0, 0.0]], 1))\n"
        "print(store.query(ctx, [0.0, 1.0], 1))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "([['a']], [[1.0]])",
        "[Hit(id='b', score=1.0, payload={'n': 2})]",
    ]


def test_k_of_numpy(ctx: Context, tmp_path: Path) -> None:
    with VectorDatabase(ctx, storage_path=tmp_path) as database:
        store = database.open(ctx, "v")
        store.upsert_arrays(ctx, ["a", "b"], np.eye(2, dtype="f4"))
        assert [hit.id for hit in store.query(ctx, [1.0, 0.0], np.int64(1))] == ["a"]
        assert store.query_arrays(ctx, np.eye(2), np.uint8(1))[0] == [["a"], ["b"]]
        with pytest.raises(ValidationError):
            store.query(ctx, [1.0, 0.0], np.float64(1))


def test_progress_tells_of_rows_and_what_it_raises_stores_nothing(ctx: Context, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((2500, 4)).astype(np.float32)
    ids = [f"v{row}" for row in range(2500)]
    told = []
    with VectorDatabase(ctx, tmp_path / "v") as db:
        store = db.open(ctx, "v")

        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.upsert_arrays(ctx, ids, vectors, progress=stop)
        assert store.count(ctx) == 0

        payloads = {"n": list(range(2500))}
        store.upsert_arrays(ctx, ids, vectors, payloads, progress=lambda *figures: told.append(figures))
        assert told == [(1000, 2500), (2000, 2500), (2500, 2500)]
        for row in (0, 999, 1000, 2499):
            found = store.get(ctx, ids[row])
            assert np.array_equal(np.float32(found.vector), vectors[row]) and found.payload == {"n": row}
        with db.begin_transaction(ctx) as t:
            inside = store.with_transaction(t)
            inside.upsert_arrays(ctx, ["new"], [[1.0, 2.0, 3.0, 4.0]], progress=lambda *_: None)
            assert (inside.count(ctx), store.count(ctx)) == (2501, 2500)
        with pytest.raises(ValidationError, match="2500 ids for 1 vectors"):
            store.upsert_arrays(ctx, ids, vectors[:1], progress=lambda *_: None)
