"""The adapter for the key-value benchmark does what the benchmark's own checks ask of it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

ADAPTER = Path(__file__).resolve().parents[2] / "scripts" / "bench" / "kv_adapter.py"


@pytest.fixture()
def ours() -> Any:
    """The class as the benchmark loads it: in a namespace that has `Peer`."""
    namespace: dict[str, Any] = {"Peer": object, "itertools": itertools}
    exec(compile(ADAPTER.read_text(), str(ADAPTER), "exec"), namespace)
    return namespace["Ours"]


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
