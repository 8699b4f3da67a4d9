"""The examples: each runs, says the same each time, and cleans up after itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import ROOT, run_script
from redis_server import RedisServer

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LAST_LINES = {
    "bank_transfer_demo": "accounts agree with the ledger: True",
    "keyvalue_demo": "order bob 2: 20",
    "langchain_demo": "How hot is water for tea? -> Tea is best with water just off the boil. (tea)",
    "modelstore_demo": "released together with its vectors: churn_v3",
    "quickstart": "Everything that was stored was found again.",
    "vector_clustered_demo": "and Standalone again: nearest is tea",
    "vector_demo": "after optimize: 300 vectors, 8 numbers each",
    "vector_replication_demo": "scrubbed: 0 findings",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_example(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    first = run_script(example)
    assert first.splitlines()[-1] == LAST_LINES[example.stem]
    assert list(temporary.iterdir()) == []
    assert run_script(example, str(tmp_path / "kept")) == first
    assert (tmp_path / "kept").is_dir()


def test_every_example_is_on_the_page() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    for example in EXAMPLES:
        assert f"`{example.name}`" in page
