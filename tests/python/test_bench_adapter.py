"""The adapters for the benchmarks do what the benchmarks' own checks ask of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

ADAPTERS = Path(__file__).resolve().parents[2] / "scripts" / "bench"


def loaded(adapter: str, **namespace: Any) -> Any:
    """The class as the benchmark loads it: in a namespace of the benchmark's."""
    path = ADAPTERS / adapter
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    return namespace["Ours"]


@pytest.fixture()
def ours() -> Any:
    return loaded("kv_adapter.py", Peer=object, itertools=itertools)


@pytest.mark.parametrize("durable", [True, False])
def test_int_keys(ours: Any, tmp_path: Path, durable: bool) -> None:
    peer = ours(str(tmp_path / "int"), "int", durable)
    peer.load(((number, {"n": number}) for number in range(1000)), seq=True)
    peer.put([(3, {"n": 33})])
    peer.put([(4, {"n": 44}), (5, {"n": 55})])
    assert [peer.get(key) for key in (2, 3, 5, 5000)] == [{"n": 2}, {"n": 33}, {"n": 55}, None]
    assert peer.mget([7, 8]) == [{"n": 7}, {"n": 8}]
    peer.get_tx([1, 2])
    assert peer.page(998, 100) == [(998, {"n": 998}), (999, {"n": 999})]
    assert peer.scan() == 1000
    peer.rmw(5)
    peer.rmw(7000)
    assert (peer.get(5), peer.get(7000)) == ({"n": 56}, {"n": 1})
    peer.close()
    again = ours(str(tmp_path / "int"), "int", durable, create=False)
    assert again.get(4) == {"n": 44}
    again.close()


def test_dict_keys(ours: Any, tmp_path: Path) -> None:
    key = {"region": "eu", "dept": "dept-03", "id": 7}
    peer = ours(str(tmp_path / "comp"), "comp")
    peer.load([(key, {"n": 1})])
    peer.close()
    again = ours(str(tmp_path / "comp"), "comp", create=False)
    assert again.get(key) == {"n": 1}
    assert again.page(key, 10) == [(key, {"n": 1})]
    again.close()


class Peer:
    def __init__(self, path: str) -> None:
        self.path = path


def test_vectors(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")

    def rows(meta: dict, start: int, stop: int) -> list:
        return [{name: meta[name][row] for name in meta} for row in range(start, stop)]

    ours = loaded("vector_adapter.py", Peer=Peer, K=10, rows=rows)
    base = np.random.default_rng(1).standard_normal((500, 8), dtype=np.float32)
    meta = {"b10": [row % 10 for row in range(500)], "lex": ["noun"] * 500}
    builder = ours(str(tmp_path))
    builder.build(base, meta)
    builder.close()
    peer = ours(str(tmp_path))
    peer.open()
    expected = [np.argsort(-(base @ q) / np.linalg.norm(base, axis=1))[:10].tolist() for q in base[:20]]
    for p in peer.sweep():
        assert peer.search(base[3], p)[0] == 3
    assert [peer.search(q, {}) for q in base[:20]] == expected
    assert peer.search_batch(base[:20], {}, 2).tolist() == expected
    assert all(id % 10 == 3 for id in peer.search(base[0], {}, {"b10": 3}))
    peer.insert([900], base[:1] * 2, {"b10": [1], "lex": ["noun"]})
    assert 900 in peer.search(base[0], {})
    peer.delete([900, 0])
    assert not {900, 0} & set(peer.search(base[0], {}))
    peer.close()
