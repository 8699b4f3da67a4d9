"""Many items: a short run of the load campaign, and overwriting does not grow the folder without bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import ROOT, run_script
from sop import Context, Database, btree

CAMPAIGN = ROOT / "tests" / "campaigns" / "load_million.py"


@pytest.mark.parametrize("slot_length", ["20", "500"])
@pytest.mark.parametrize("order", ["ascending", "random"])
def test_fifty_thousand_items(slot_length: str, order: str) -> None:
    """2.0.17 stopped growing for good at 7,201 items of slot_length 20."""
    output = run_script(CAMPAIGN, slot_length, order, "50000")
    assert output.splitlines()[-1].endswith("all there, in order")


def test_overwriting_does_not_grow_the_folder_without_bound(ctx: Context, tmp_path: Path) -> None:
    value = "x" * 1_000_000
    with Database(ctx, storage_path=tmp_path) as db:
        for _ in range(60):
            with db.begin_transaction(ctx) as t:
                store = btree.Btree.new(ctx, btree.BtreeOptions("s", True), t)
                store.upsert(ctx, [btree.Item(key, value) for key in range(10)])
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < 400_000_000, "600 MB were written, 10 MB are live"
