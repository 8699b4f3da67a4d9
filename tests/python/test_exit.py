"""How a process ends: quietly, whatever is open or running, and nothing that was acknowledged is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import count, environment, seed
from exits import stored

EXITS = Path(__file__).with_name("exits.py")
# Longer than anything here takes: what needs it hangs.
SECONDS = 120

ENDS = [
    "with_open_transactions",
    "with_objects_in_a_cycle",
    "from_atexit",
    "with_daemon_threads_committing",
    "with_a_checkpoint_running",
    "with_daemon_threads_in_long_calls",
    "with_daemon_threads_in_maps",
    "with_sys_exit_in_a_thread",
    "with_threads_that_end_later",
    "with_os_exit",
    "with_a_subinterpreter",
]


def start(task: str, folder: Path, journal: Path, dice: random.Random) -> subprocess.Popen[str]:
    """With everything switched on that tells of memory used wrongly and of what is left open."""
    return subprocess.Popen(
        [sys.executable, "-X", "dev", str(EXITS), task, str(folder), str(journal), str(dice.randrange(60))],
        env={**environment(), "PYTHONMALLOC": "debug"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Its output and its errors. One that hangs is a failure, and ends."""
    try:
        return process.communicate(timeout=SECONDS)
    finally:
        process.kill()


def check(folder: Path, journal: Path) -> None:
    acknowledged = {int(line) for line in journal.read_text().split()}
    present = set(stored(str(folder)))
    assert acknowledged
    assert acknowledged <= present, f"lost: {sorted(acknowledged - present)}"
    assert not any(str(key).startswith("never") for key in present)


@pytest.mark.parametrize("task", ENDS)
def test_a_process_ends_quietly(tmp_path: Path, task: str) -> None:
    dice = random.Random(f"{seed()} {task}")
    for round in range(count(1)):
        folder, journal = tmp_path / f"{round}", tmp_path / f"{round}.journal"
        process = start(task, folder, journal, dice)
        output, errors = finish(process)
        assert (process.returncode, output, errors) == (0, "", "")
        check(folder, journal)


def test_an_exception_that_nobody_catches_is_all_that_is_told(tmp_path: Path) -> None:
    dice = random.Random(seed())
    for round in range(count(1)):
        folder, journal = tmp_path / f"{round}", tmp_path / f"{round}.journal"
        process = start("with_an_exception", folder, journal, dice)
        _, errors = finish(process)
        assert process.returncode == 1
        assert errors.startswith("Traceback")
        assert errors.count("Traceback") == 1
        assert errors.endswith("ZeroDivisionError: on purpose\n")
        check(folder, journal)


def test_an_interrupted_program_can_go_on(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a long call is a KeyboardInterrupt once the call returns."""
    dice = random.Random(seed())
    for round in range(count(1)):
        folder, journal = tmp_path / f"{round}", tmp_path / f"{round}.journal"
        process = start("interrupted", folder, journal, dice)
        assert process.stdout.readline() == "ready\n"
        time.sleep(dice.uniform(0, 0.3))
        process.send_signal(signal.SIGINT)
        output, errors = finish(process)
        assert (process.returncode, output, errors) == (0, "went on\n", "")
        check(folder, journal)
