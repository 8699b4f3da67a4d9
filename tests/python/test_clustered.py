"""Clustered databases and their Redis server: lost, paused, flushed, restarted, and none at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

from conftest import environment, run_script
from redis_server import RedisServer, free_port
from sop import Context, Database, DBType, RedisError, Transaction, TransactionOptions, btree
from sop.redis import Redis

COUNTER = """
import sys
from sop import ConflictError, Context, Database, DBType, btree
from sop.redis import Redis

folder, url, increments = sys.argv[1:]
Redis.open_connection(url)
ctx = Context()
with Database(ctx, storage_path=folder, db_type=DBType.Clustered) as db:
    for _ in range(int(increments)):
        while True:
            try:
                with db.begin_transaction(ctx) as t:
                    store = btree.Btree.open(ctx, "numbers", t)
                    store.update(ctx, btree.Item("n", store.find_one(ctx, "n").value + 1))
                break
            except ConflictError:
                pass
"""


@pytest.fixture
def connected(redis_server: RedisServer) -> Iterator[RedisServer]:
    Redis.open_connection(redis_server.url)
    yield redis_server
    Redis.close_connection()


def put(ctx: Context, folder: Path, key: str, value: object) -> None:
    options = TransactionOptions(stores_folders=[str(folder)], db_type=DBType.Clustered)
    with Transaction(ctx, options) as t:
        store = btree.Btree.new(ctx, btree.BtreeOptions("numbers", True), t)
        store.upsert(ctx, btree.Item(key, value))


def get(ctx: Context, folder: Path, key: str) -> object:
    with Database(ctx, storage_path=folder, db_type=DBType.Clustered) as db:
        with db.begin_transaction(ctx, 2) as t:
            return btree.Btree.open(ctx, "numbers", t).find_one(ctx, key).value


def until_used(server: RedisServer, ctx: Context, folder: Path) -> None:
    """A server that did not answer is left alone for a while."""
    deadline = time.monotonic() + 60
    while server.call("DBSIZE") == ":0":
        assert time.monotonic() < deadline, "the server is not used again"
        put(ctx, folder, "again", time.monotonic())


def test_without_a_server_opening_says_what_to_do(ctx: Context, tmp_path: Path) -> None:
    script = tmp_path / "open.py"
    script.write_text(
        "import sys, sop, sop.redis\n"
        "ctx = sop.Context()\n"
        "db = sop.Database(ctx, storage_path=sys.argv[1], db_type=sop.DBType.Clustered)\n"
        "try:\n"
        "    db.begin_transaction(ctx)\n"
        "except sop.RedisError as error:\n"
        "    print(error)\n"
        "else:\n"
        "    print('localhost:6379 redis-server Redis.open_connection: somebody has one')\n",
        encoding="utf-8",
    )
    told = run_script(script, str(tmp_path / "db"))
    for part in ("localhost:6379", "redis-server", "Redis.open_connection"):
        assert part in told
    with pytest.raises(RedisError, match="redis-server"):
        Redis.open_connection(f"redis://:secret@127.0.0.1:{free_port()}")


def test_each_database_has_its_own_keys(ctx: Context, tmp_path: Path, connected: RedisServer) -> None:
    put(ctx, tmp_path / "one", "k", 1)
    put(ctx, tmp_path / "two", "k", 2)
    keys = connected.keys()
    assert all(key.startswith("sop:") for key in keys)
    assert len({key.split(":")[1] for key in keys}) == 2
    assert (get(ctx, tmp_path / "one", "k"), get(ctx, tmp_path / "two", "k")) == (1, 2)


def test_a_server_that_is_lost_flushed_paused_or_new_loses_nothing(
    ctx: Context, tmp_path: Path, connected: RedisServer
) -> None:
    folder, server = tmp_path / "db", connected
    put(ctx, folder, "before", 1)
    assert server.call("DBSIZE") != ":0"
    assert server.call("FLUSHALL") == "+OK"
    put(ctx, folder, "flushed", 2)
    until_used(server, ctx, folder)
    server.pause()
    for number in range(5):
        put(ctx, folder, f"paused {number}", number)
    server.go_on()
    server.call("FLUSHALL")
    until_used(server, ctx, folder)
    server.kill()
    put(ctx, folder, "lost", 3)
    assert [get(ctx, folder, key) for key in ("before", "flushed", "paused 4", "lost")] == [1, 2, 4, 3]
    server.start()
    until_used(server, ctx, folder)
    assert [get(ctx, folder, key) for key in ("before", "flushed", "paused 4", "lost")] == [1, 2, 4, 3]


def test_processes_that_increment_one_counter_all_succeed(
    ctx: Context, tmp_path: Path, connected: RedisServer
) -> None:
    folder = tmp_path / "db"
    put(ctx, folder, "n", 0)
    command = [sys.executable, "-c", COUNTER, str(folder), connected.url, "25"]
    processes = [subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told.decode()
    assert get(ctx, folder, "n") == 100


def test_closing_the_connection_leaves_open_databases_open(
    ctx: Context, tmp_path: Path, connected: RedisServer
) -> None:
    with Database(ctx, storage_path=tmp_path / "db", db_type=DBType.Clustered) as db:
        with db.begin_transaction(ctx) as t:
            btree.Btree.new(ctx, btree.BtreeOptions("numbers", True), t).add(ctx, "k", 1)
        Redis.close_connection()
        with db.begin_transaction(ctx, 2) as t:
            assert btree.Btree.open(ctx, "numbers", t).find_one(ctx, "k").value == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_child_starts_without_a_connection(
    ctx: Context, tmp_path: Path, connected: RedisServer
) -> None:
    folder = tmp_path / "db"
    put(ctx, folder, "parent", 1)
    child = os.fork()
    if child == 0:
        # The parent's connection must not be talked over by two.
        try:
            Redis.open_connection(connected.url)
            put(Context(), folder, "child", 2)
            os._exit(0)
        finally:
            os._exit(1)
    put(ctx, folder, "parent", 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (get(ctx, folder, "parent"), get(ctx, folder, "child")) == (3, 2)
