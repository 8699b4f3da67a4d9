"""Damaged files: a CorruptionError that names the file and the place, or the answers as they were."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from sop import Context, CorruptionError, Database, TransactionMode, btree
from sop.ai import Item, Model

Answers = dict[str, Any]


def fill(ctx: Context, folder: Path) -> None:
    with Database(ctx, storage_path=folder) as db:
        for start in range(0, 60, 20):
            with db.begin_transaction(ctx) as t:
                tree = btree.Btree.new(ctx, btree.BtreeOptions("users", True), t)
                tree.add(ctx, [btree.Item(key, "x" * 100 * key) for key in range(start, start + 20)])
                # Too large for the log: it lies in a segment.
                tree.add(ctx, btree.Item(1000 + start, "y" * 70_000))
        with db.begin_transaction(ctx) as t:
            db.open_vector_store(ctx, t, "vectors").upsert(ctx, Item("a", [1.0, 2.0], {"n": 1}))
            db.open_model_store(ctx, t, "models").save(ctx, "c", "m", Model("m"))


def ask(ctx: Context, folder: Path) -> Answers:
    with Database(ctx, storage_path=folder) as db:
        with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
            users = btree.Btree.open(ctx, "users", t)
            return {
                "count": users.count(ctx),
                "users": [(item.key, item.value) for item in users.items(ctx)],
                "vector": db.open_vector_store(ctx, t, "vectors").get(ctx, "a").payload,
                "models": db.open_model_store(ctx, t, "models").list(ctx, "c"),
            }


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


def is_detected(ctx: Context, whole: Path, name: Path, content: bytes | None) -> bool:
    """Whether other content of a file (None: it is removed) is refused; else the answers are as before."""
    damaged = whole.with_name("damaged")
    shutil.copytree(whole, damaged)
    (damaged / name).unlink()
    if content is not None:
        (damaged / name).write_bytes(content)
    try:
        assert ask(ctx, damaged) == ask(ctx, whole), name
        return False
    except CorruptionError as error:
        assert error.code == 51 and not error.retryable
        assert Path(error.details["file"]) == damaged.resolve() / name
        assert str(name) in str(error) and f"offset {error.details['offset']}" in str(error)
        return True
    finally:
        shutil.rmtree(damaged)


def test_flipped_bytes_and_removed_files(ctx: Context, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    fill(ctx, whole)
    chosen = random.Random(1)
    detected = 0
    for path in sorted(path for path in whole.rglob("*") if path.is_file()):
        name = path.relative_to(whole)
        content = path.read_bytes()
        used = len(content.rstrip(b"\0"))
        for at in chosen.sample(range(used), min(used, 12)):
            detected += is_detected(ctx, whole, name, flip(content, at))
        detected += is_detected(ctx, whole, name, None)
    assert detected > 10


@pytest.mark.parametrize("name", ["FORMAT", "log/*.wal"])
def test_a_missing_file_is_named(ctx: Context, tmp_path: Path, name: str) -> None:
    whole = tmp_path / "whole"
    fill(ctx, whole)
    (path,) = whole.glob(name)
    assert is_detected(ctx, whole, path.relative_to(whole), None)
