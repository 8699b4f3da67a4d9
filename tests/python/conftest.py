"""What the tests share: the package of this work tree, and a database in a temporary folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python"
sys.path.insert(0, str(PACKAGE))

from redis_server import RedisServer  # noqa: E402
from sop import Context, Database, TransactionMode, btree  # noqa: E402

# A shell starts what runs in its background with Ctrl-C ignored, and programs inherit that.
# Those that are interrupted here must not.
signal.signal(signal.SIGINT, signal.default_int_handler)


def environment() -> dict[str, str]:
    """Environment of a Python process that imports the package of this work tree."""
    return {**os.environ, "PYTHONPATH": str(PACKAGE)}


def count(short: int) -> int:
    """How much a campaign does: SOP_COUNT, which `scripts/prove` sets; `short` in scripts/test."""
    return int(os.environ.get("SOP_COUNT", short))


def seed() -> int:
    """Where a campaign starts: SOP_SEED."""
    return int(os.environ.get("SOP_SEED", 1))


def run_script(path: Path, *arguments: str, cwd: Path | None = None, timeout: float | None = 300) -> str:
    """Output of a script in a process of its own, which must succeed and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{path.name} failed:\n{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def ctx() -> Context:
    return Context()


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def db(ctx: Context, tmp_path: Path) -> Iterator[Database]:
    with Database(ctx, storage_path=tmp_path / "db") as database:
        yield database


@pytest.fixture
def in_btree(ctx: Context, db: Database) -> Iterator[Callable[..., btree.Btree]]:
    """Makes B-trees in one open transaction: in_btree(is_unique=True, index_spec=...)."""
    transaction = db.begin_transaction(ctx, TransactionMode.ForWriting)
    names = iter(range(1000))

    def make(*, index_spec: btree.IndexSpecification | None = None, **options: object) -> btree.Btree:
        made = btree.BtreeOptions(f"store{next(names)}", **options)
        return btree.Btree.new(ctx, made, transaction, index_spec)

    yield make
    if not transaction._state.finished:
        transaction.rollback(ctx)
