"""A full disk and a read-only folder, on a small tmpfs of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import environment

PROGRAM = Path(__file__).with_name("disks.py")

# Mounts a tmpfs in a mount namespace of its own, so that nothing is left mounted.
NAMESPACE = ["unshare", "-m"] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["unshare", "-rm"]
MOUNT = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'


def on_tmpfs(size: str, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NAMESPACE, "sh", "-c", MOUNT, "sh", size, str(folder), *command],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    if shutil.which("unshare") is None or on_tmpfs("1m", tmp_path, "true").returncode != 0:
        pytest.skip("this user may not mount a tmpfs")
    return tmp_path


@pytest.mark.parametrize(
    ("task", "size"),
    [
        ("full", "200m"),
        ("full", "24m"),
        ("full_from_the_start", "16m"),
        ("read_only", "500m"),
        ("copies_read_only", "500m"),
    ],
)
def test_disk(disk: Path, task: str, size: str) -> None:
    done = on_tmpfs(size, disk, sys.executable, str(PROGRAM), task, str(disk))
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
