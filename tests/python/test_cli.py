"""`python -m sop` and the calls behind it: exit codes, JSON, live backups, compaction, progress, Ctrl-C."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import environment
from redis_server import RedisServer
from sop import (
    Context,
    ContextCancelledError,
    CorruptionError,
    Database,
    DBType,
    Redis,
    ValidationError,
    _progress,
    btree,
)
from sop.ai import Item, Model, VectorDatabase

WORKERS = Path(__file__).with_name("workers.py")
NO_DATABASE = "there is no database in"


def sop(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sop", *map(str, arguments)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def answer(*arguments: object, code: int = 0) -> object:
    """The JSON document that a command answers with, on its own, and with nothing on stderr."""
    done = sop(*arguments, "--json")
    assert (done.returncode, done.stderr) == (code, "")
    return json.loads(done.stdout)


def noise(seed: int, length: int) -> str:
    """Text that compression makes hardly shorter."""
    return f"{random.Random(seed).getrandbits(4 * length):0{length}x}"


def test_a_clustered_database_in_use_is_looked_after_as_it_is(
    ctx: Context, tmp_path: Path, redis_server: RedisServer
) -> None:
    Redis.open_connection(redis_server.url)
    folder, copy = tmp_path / "db", tmp_path / "copy"
    with Database(ctx, storage_path=folder, db_type=DBType.Clustered) as db:
        for key in range(3):
            with db.begin_transaction(ctx) as t:
                db.new_btree(ctx, "one", t).upsert(ctx, btree.Item(key=key, value="v"))
        assert answer("info", folder)["processes"] == 2
        assert answer("verify", folder)["findings"] == []
        for command in ("ls", "compact"):
            assert sop(command, folder).returncode == 0
        assert sop("backup", folder, copy).returncode == 0
        with db.begin_transaction(ctx) as t:
            assert db.open_btree(ctx, "one", t).count() == 3
    # Still Clustered, and nobody has it open: the tools need no server.
    redis_server.stop()
    assert answer("verify", folder)["findings"] == []
    assert sop("info", folder).returncode == 0
    with Database.as_found(ctx, copy) as db, db.begin_transaction(ctx) as t:
        assert db.open_btree(ctx, "one", t).count() == 3


def contents(folder: Path) -> dict[str, list[object]]:
    ctx = Context()
    with Database(ctx, storage_path=folder) as db, db.begin_transaction(ctx) as t:
        return {
            name: [(item.key, item.value) for item in btree.Btree.open(ctx, name, t).items(ctx)]
            for name in ("one", "two")
        }


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed database with all kinds of stores."""
    path = tmp_path / "db"
    ctx = Context()
    with VectorDatabase(ctx, storage_path=path) as db:
        with db.begin_transaction(ctx) as t:
            people = btree.Btree.new(ctx, btree.BtreeOptions("people", True), t)
            people.add(ctx, [btree.Item(f"user{n:03}", {"n": n, "ü": "x" * 100}) for n in range(500)])
            btree.Btree.new(ctx, btree.BtreeOptions("log"), t).add(ctx, [btree.Item(1, n) for n in range(5)])
            btree.Btree.new(ctx, btree.BtreeOptions("empty", True), t)
            big = btree.BtreeOptions("big", True)
            big.set_value_data_size(btree.ValueDataSize.Big)
            btree.Btree.new(ctx, big, t).add(ctx, [btree.Item(n, noise(n, 200_000)) for n in range(3)])
        vectors = db.open(ctx, "vectors")
        vectors.upsert_batch(ctx, [Item(f"v{n}", [float(n), 1.0], {"n": n}) for n in range(20)])
        vectors.delete(ctx, "v3")
        db.open_model_store(ctx, "models").save(ctx, "c", "m", Model("m"))
        db.compact(ctx)
        with db.begin_transaction(ctx) as t:
            people = btree.Btree.open(ctx, "people", t)
            people.remove(ctx, "user007")
            people.upsert(ctx, "user008", "replaced")
    return path


def test_an_intact_database(folder: Path) -> None:
    before = files(folder)
    found = answer("verify", folder)
    assert files(folder) == before
    assert (found["intact"], found["findings"], found["log"]["torn"]) == (True, [], False)
    stores = {(store["kind"], store["name"]): store["items"] for store in found["stores"]}
    assert stores == {
        ("btree", "people"): 499,
        ("btree", "log"): 5,
        ("btree", "empty"): 0,
        ("btree", "big"): 3,
        ("vector", "vectors"): 19,
        ("model", "models"): 1,
    }
    listed = answer("ls", folder)
    assert {(store["kind"], store["name"]): store["items"] for store in listed} == stores
    options = {store["name"]: store["options"] for store in listed}
    assert options["people"]["is_unique"] is True
    assert options["vectors"]["dimension"] == 2
    plain = sop("verify", folder)
    assert (plain.returncode, plain.stderr) == (0, "")
    assert plain.stdout.startswith("intact: 6 stores, ")
    assert sop("verify", folder, "--quiet").stdout == ""
    assert sop("ls", folder).stdout.splitlines()[0].split() == ["KIND", "ITEMS", "NAME", "OPTIONS"]


def test_info(folder: Path) -> None:
    info = answer("info", folder)
    assert (info["format_version"], info["stores"], info["processes"]) == (1, 6, 1)
    disk = info["disk"]
    assert disk["bytes"] == sum(disk[kind]["bytes"] for kind in ("log", "segments", "manifests"))
    assert 0 <= info["garbage"] < 1
    assert info["checkpoint"] == info["sequence"], "who closes it last makes a checkpoint"
    assert info["oldest_pin"] is None
    assert info["uuid"] in sop("info", folder).stdout


def test_get_and_scan(folder: Path) -> None:
    assert json.loads(sop("get", folder, "people", '"user001"').stdout)["n"] == 1
    assert sop("get", folder, "people", "user008").stdout == '"replaced"\n'
    assert answer("get", folder, "people", "user008")["key"] == "user008"
    missing = sop("get", folder, "people", "user007")
    assert (missing.returncode, missing.stdout, missing.stderr) == (1, "", "")
    lines = sop("scan", folder, "people", "--start", "user006", "--stop", "user010").stdout.splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["user006", "user008", "user009"]
    keys = sop("scan", folder, "people", "--keys", "--reverse", "--limit", 2).stdout
    assert keys.splitlines() == ['"user499"', '"user498"']
    assert sop("scan", folder, "people", "--limit", 0).stdout == ""
    assert len(sop("scan", folder, "log", "--start", 1).stdout.splitlines()) == 5
    for command, what in (
        (("get", folder, "no such store", 1), "not found\n"),
        (("scan", folder, "vectors"), "not found: it is a vector store\n"),
        (("get", folder, "models", 1), "not found: it is a model store\n"),
    ):
        done = sop(*command)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(what)


def test_a_reader_that_wants_no_more_is_no_error(folder: Path) -> None:
    scan = subprocess.Popen(
        [sys.executable, "-m", "sop", "scan", str(folder), "people"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    scan.stdout.readline()
    scan.stdout.close()
    assert scan.stderr.read() == b""
    scan.stderr.close()
    assert scan.wait(60) == 0


def shell(line: str, folder: Path, **variables: str) -> tuple[int, str, str]:
    """Exit code and output of a line of shell, in which `sop` is the command line and $1 the database."""
    script = f'sop() {{ "{sys.executable}" -m sop "$@"; }}\n{line}'
    done = subprocess.run(
        ["bash", "-c", script, "bash", str(folder)],
        env={**environment(), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def damage(folder: Path) -> None:
    (manifest,) = folder.glob("man/*.man")
    manifest.write_bytes(b"no manifest")


def test_the_verdict_stands_when_nobody_reads_the_report(folder: Path) -> None:
    assert shell('sop verify "$1" | true; exit "${PIPESTATUS[0]}"', folder) == (0, "", "")
    damage(folder)
    for options in ("", "--json"):
        code = 'exit "${PIPESTATUS[0]}"'
        assert shell(f'sop verify "$1" {options} | true; {code}', folder) == (1, "", "")
    assert shell('sop verify "$1" >&-', folder) == (1, "", "")


def test_progress_that_nobody_sees_does_not_stop_a_backup(folder: Path, tmp_path: Path) -> None:
    for number, nowhere in enumerate(("2> >(true)", "2>/dev/full", "2>&-")):
        copy = tmp_path / f"copy{number}"
        line = f'sop backup "$1" "{copy}" --json --progress {nowhere}'
        code, output, errors = shell(line, folder)
        assert (code, json.loads(output)["verified"], errors) == (0, True, "")
        assert answer("verify", copy)["intact"]


def test_an_answer_that_cannot_be_written_is_a_failure(folder: Path) -> None:
    for command in ('verify "$1"', 'ls "$1"', 'scan "$1" people', 'info "$1" --json'):
        code, output, errors = shell(f"sop {command} >/dev/full", folder)
        assert (code, output) == (2, "")
        assert errors.startswith("sop: cannot write the answer: ")
    assert shell('sop info "$1/missing" 2>&-', folder) == (2, "", "")


def test_an_output_that_lacks_characters_gets_escapes(folder: Path) -> None:
    for encoding in ("ascii", "latin-1"):
        code, output, errors = shell('sop get "$1" people user001', folder, PYTHONIOENCODING=encoding)
        assert (code, json.loads(output)["ü"], errors) == (0, "x" * 100, "")
    renamed = folder.with_name("dß€")
    folder.rename(renamed)
    code, output, errors = shell('sop info "$1"', renamed, PYTHONIOENCODING="ascii")
    assert (code, errors) == (0, "")
    assert r"d\xdf\u20ac" in output


def test_keys_that_look_like_json_or_like_options(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    ctx = Context()
    keys = ["NaN", "-Infinity", "1", 1, True, "true", None, "null", "-x", "{", [1, "a"], '"', ""]
    with Database(ctx, storage_path=folder) as db, db.begin_transaction(ctx) as t:
        store = btree.Btree.new(ctx, btree.BtreeOptions("keys", True), t)
        assert store.add(ctx, [btree.Item(key, {"is": key}) for key in keys])
    for key in keys:
        assert json.loads(sop("get", folder, "keys", "--", json.dumps(key)).stdout) == {"is": key}
    for text in ("NaN", "-Infinity", "-x", "{", '"', ""):
        assert json.loads(sop("get", folder, "keys", "--", text).stdout) == {"is": text}
    assert answer("get", folder, "keys", "null")["key"] is None
    assert answer("get", folder, "keys", " 1 ")["key"] == 1
    assert sop("scan", folder, "keys", "--stop", "null").stdout == ""
    assert len(sop("scan", folder, "keys", "--start", "null").stdout.splitlines()) == len(keys)
    assert sop("scan", folder, "keys", "--start=-x", "--limit", 1, "--keys").stdout == '"-x"\n'
    deep = sop("get", folder, "keys", "[" * 100_000)
    assert (deep.returncode, deep.stderr) == (2, "sop: the key is nested too deeply\n")


def test_a_command_leaves_no_pin(folder: Path) -> None:
    before = files(folder)
    for command in (("info", folder), ("ls", folder), ("get", folder, "people", 1), ("scan", folder, "log")):
        assert sop(*command).stderr == ""
    assert files(folder) == before


@pytest.mark.parametrize("command", ["verify", "info", "ls", "get", "scan", "backup", "compact"])
def test_where_there_is_no_database_none_is_made(command: str, tmp_path: Path) -> None:
    further = {"get": ("s", 1), "scan": ("s",), "backup": (tmp_path / "copy",)}
    for path in (tmp_path / "missing", tmp_path):
        done = sop(command, path, *further.get(command, ()))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"sop: {NO_DATABASE} ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="root is made to obey permissions by setpriv")
def test_what_may_not_be_read_is_not_damaged(folder: Path) -> None:
    obey = "setpriv --bounding-set=-all --inh-caps=-all" if os.geteuid() == 0 else ""
    line = f'{obey} "{sys.executable}" -m sop verify "$1"'
    (wal, *_), (segment, *_) = sorted(folder.glob("log/*.wal")), sorted(folder.glob("seg/*.seg"))
    for path in (folder / "FORMAT", folder, wal, segment):
        mode = path.stat().st_mode
        path.chmod(0)
        code, output, errors = shell(line, folder)
        path.chmod(mode)
        assert (code, output) == (2, ""), path
        assert errors.startswith("sop: cannot open ") and "Permission denied" in errors
    assert shell(line, folder)[0] == 0


def test_usage_errors_exit_with_2(folder: Path) -> None:
    for arguments in ((), ("verify",), ("verify", folder, "more"), ("scan", folder, "people", "--limit", -1)):
        assert sop(*arguments).returncode == 2
    assert sop("--version").stdout.startswith("sop ")


def test_all_damage_is_listed(folder: Path) -> None:
    damaged = [path for path in files(folder) if path.suffix in (".seg", ".man", ".wal")]
    for path in damaged:
        data = bytearray(path.read_bytes())
        data[40] ^= 1
        path.write_bytes(data)
    found = answer("verify", folder, code=1)
    assert found["intact"] is False
    for path in damaged:
        if path.suffix != ".seg":
            assert str(path.relative_to(folder)) in {finding["file"] for finding in found["findings"]}
    plain = sop("verify", folder)
    assert plain.returncode == 1
    assert plain.stdout.splitlines()[-1].startswith(f"{len(found['findings'])} findings")
    broken = sop("ls", folder)
    assert broken.returncode == 2
    assert "python -m sop verify" in broken.stderr
    ctx = Context()
    with Database(ctx, storage_path=folder) as db, pytest.raises(CorruptionError) as raised:
        db.info(ctx)
    assert raised.value.details["file"].startswith(str(folder))
    assert raised.value.details["offset"] == 0


def test_verify_survives_any_flipped_byte(folder: Path, tmp_path: Path) -> None:
    """In one process: a crash or a hang would be one of it all."""
    dice = random.Random(int(os.environ.get("SOP_SEED", "1")))
    ctx = Context()
    copy = tmp_path / "damaged"
    shutil.copytree(folder, copy)
    db = Database(ctx, storage_path=copy)
    paths = [path for path in files(copy) if path.stat().st_size]
    findings = 0
    for number in range(int(os.environ.get("SOP_COUNT", "100"))):
        path = paths[number % len(paths)]
        whole = path.read_bytes()
        data = bytearray(whole)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        try:
            findings += len(db.verify(ctx).findings)
        except ValidationError as error:
            assert path.name == "FORMAT", error
        path.write_bytes(whole)
    assert findings > 20
    assert db.verify(ctx).intact


def test_a_live_backup_is_one_committed_state(tmp_path: Path) -> None:
    live = tmp_path / "live"
    writer = subprocess.Popen(
        [sys.executable, str(WORKERS), "overwrite_until_killed", str(live)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout.readline() == "ready\n"
        assert answer("verify", live)["intact"]
        numbers = []
        for round_ in range(4):
            copy = tmp_path / f"copy{round_}"
            made = answer("backup", live, copy)
            assert made["verified"] is True
            assert answer("verify", copy)["intact"]
            assert answer("info", copy)["sequence"] >= made["sequence"]
            state = contents(copy)
            assert state["one"] == state["two"] and len(state["one"]) == 100
            # All keys of one transaction.
            (number,) = {value[0] for _, value in state["one"]}
            numbers.append(number)
            assert answer("compact", live)["checkpoints"] >= 2
        assert numbers == sorted(numbers) and numbers[0] < numbers[-1]
        assert writer.poll() is None
        assert answer("verify", live)["intact"]
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    # The writer died in the middle of something.
    assert answer("verify", live)["intact"]
    last = tmp_path / "last"
    assert sop("backup", live, last, "--no-verify", "--quiet").stdout == ""
    assert contents(last) == contents(live)


def test_a_backup_goes_only_into_a_folder_that_is_missing_or_empty(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.mkdir()
    (target / "note").write_text("mine")
    done = sop("backup", folder, target)
    assert (done.returncode, done.stdout) == (2, "")
    assert "not empty" in done.stderr
    assert [path.name for path in target.iterdir()] == ["note"]
    (target / "note").unlink()
    done = sop("backup", folder, target, "--progress")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].startswith("backup: 100 %")
    assert answer("ls", target) == answer("ls", folder)


def test_compact_shrinks(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    ctx = Context()
    with Database(ctx, storage_path=folder) as db:
        for _ in range(3):
            with db.begin_transaction(ctx) as t:
                store = btree.Btree.new(ctx, btree.BtreeOptions("one", True), t)
                store.upsert(ctx, [btree.Item(key, noise(key, 2000)) for key in range(5000)])
            db.compact(ctx)
        with db.begin_transaction(ctx) as t:
            btree.Btree.open(ctx, "one", t).remove(ctx, [key for key in range(5000) if key % 20])
        # Before it is closed, which compacts, too.
        made = answer("compact", folder)
    assert made["after"]["bytes"] < made["before"]["bytes"] / 2
    assert made["after"]["segments"]["bytes"] < 2_000_000
    assert answer("verify", folder)["stores"] == [{"name": "one", "kind": "btree", "items": 250}]
    assert "before" in sop("compact", folder).stdout


def test_progress_and_cancelling(folder: Path, tmp_path: Path) -> None:
    ctx = Context()
    with Database(ctx, storage_path=folder) as db:
        seen: list[tuple[int, int]] = []
        assert db.verify(ctx, lambda done, total: seen.append((done, total))).intact
        assert seen[-1][0] == seen[-1][1] > 600_000
        assert seen == sorted(seen)

        class StopError(Exception):
            pass

        def stop(done: int, total: int) -> None:
            raise StopError

        with pytest.raises(StopError):
            db.verify(ctx, stop)
        with pytest.raises(ValidationError):
            db.verify(ctx, "no function")
        with pytest.raises(ValidationError):
            db.backup(ctx, "")
        for wrong in ("yes", None, [], 1):
            with pytest.raises(ValidationError):
                db.backup(ctx, tmp_path / "copy", verify=wrong)
        cancelled = Context()
        cancelled.cancel()
        with pytest.raises(ContextCancelledError):
            db.backup(cancelled, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
        assert dataclasses.asdict(db.backup(ctx, tmp_path / "copy"))["verified"] is True


def test_ctrl_c_stops_a_backup_and_leaves_no_database(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    ctx = Context()
    with Database(ctx, storage_path=folder) as db, db.begin_transaction(ctx) as t:
        big = btree.BtreeOptions("big", True)
        big.set_value_data_size(btree.ValueDataSize.Big)
        btree.Btree.new(ctx, big, t).add(ctx, [btree.Item(n, "y" * 10_000_000) for n in range(8)])
    target = tmp_path / "copy"
    backup = subprocess.Popen(
        [sys.executable, "-m", "sop", "backup", str(folder), str(target)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(target.glob("seg/*")) and backup.poll() is None:
        threading.Event().wait(0.001)
    backup.send_signal(signal.SIGINT)
    output, errors = backup.communicate(timeout=60)
    if list(target.iterdir()):
        # It was over before the signal came, wherever the command was by then: it is whole.
        assert answer("verify", target)["intact"]
        return
    assert (backup.returncode, output, errors) == (130, "", "")


def test_ctrl_c_while_a_long_call_is_being_started_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    def until_stopped(cell: Any, *_: Any) -> None:
        while not cell.stop:
            threading.Event().wait(0.001)
        stopped.set()

    class Interrupted(_progress._LongCall):
        def start(self) -> None:
            self.arguments = (self.cell,)
            super().start()
            raise KeyboardInterrupt

    monkeypatch.setattr(_progress, "_LongCall", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        _progress.run(lambda function, *arguments: function(*arguments), until_stopped, None)
    assert stopped.is_set()


def test_ctrl_c_before_a_long_call_has_a_thread_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(call: threading.Thread) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_progress._LongCall, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _progress.run(pytest.fail, None, None)
