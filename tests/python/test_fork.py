"""After a fork: what the parent opened is refused, opening anew works, the parent goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import count, environment, run_script, seed
from sop import Context, Database, btree

FORKS = Path(__file__).with_name("forks.py")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.parametrize("task", ["handles", "unused"])
def test_fork(tmp_path: Path, task: str) -> None:
    run_script(FORKS, task, str(tmp_path / "db"))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes(tmp_path: Path, method: str) -> None:
    run_script(FORKS, "pools", str(tmp_path / "db"), method, "4")


def test_a_child_forked_in_the_middle_of_other_threads_calls(tmp_path: Path) -> None:
    """A lock that another thread held at the fork is never released in the child."""
    print(run_script(FORKS, "storm", str(tmp_path / "db"), str(count(25)), str(seed()), timeout=None), end="")


def test_a_child_forked_while_another_thread_makes_an_id(tmp_path: Path) -> None:
    run_script(FORKS, "ids", str(tmp_path / "db"), str(count(60)), timeout=None)


def test_a_child_that_outlives_its_parent_keeps_no_lock(ctx: Context, tmp_path: Path) -> None:
    """It shares the parent's files: a lock that the parent held when it was killed would be held on."""
    dice = random.Random(seed())
    for round in range(count(6)):
        folder, journal = tmp_path / f"{round}", tmp_path / f"{round}.journal"
        parent = subprocess.Popen(
            [sys.executable, str(FORKS), "orphan", str(folder), str(journal)], env=environment()
        )
        while not journal.exists() or not journal.read_text():
            assert parent.poll() is None
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.1))
        parent.kill()
        parent.wait()
        # A lock that somebody holds is waited for, a minute long, and then an error.
        with Database(ctx, storage_path=folder) as db, db.begin_transaction(ctx) as t:
            assert btree.Btree.open(ctx, "rows", t).add(ctx, "after", 1)
        os.kill(int(journal.read_text()), signal.SIGKILL)
        shutil.rmtree(folder)
