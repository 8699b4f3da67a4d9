"""Erasure coding and mirrored folders, as programs and the command line use them."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any, Callable

import pytest

from sop import (
    Context,
    Database,
    DrivesLostError,
    ErasureCodingConfig,
    LockedError,
    StorageError,
    TransactionMode,
    TransactionOptions,
    ValidationError,
    __main__,
    btree,
)
from sop.ai import Item, Model, VectorDatabase

# With it a database has more than a unit of 256 KiB on each drive.
VALUE = f"{random.Random(1).getrandbits(16_000):x}"
COUNT = 600


class Place:
    """A database over drives, whose folders are in `path`."""

    def __init__(self, path: Path, data: int = 2, parity: int = 1, mirrors: int = 0, store: str = "") -> None:
        self.path = path
        self.drives = [path / f"drive{number}" for number in range(data + parity if data else 0)]
        self.folders = [path / f"db{number}" for number in range(1 + mirrors)]
        self.erasure = (
            {store: ErasureCodingConfig(data, parity, [str(drive) for drive in self.drives], True)}
            if data
            else None
        )

    def open(self, ctx: Context, kind: type[Database] = Database) -> Any:
        return kind(ctx, stores_folders=[str(f) for f in self.folders], erasure_config=self.erasure)

    def arguments(self) -> list[str]:
        """Those of the command line."""
        flags = [("--mirror", folder) for folder in self.folders[1:]]
        flags += [("--drive", drive) for drive in reversed(self.drives)]
        return [str(self.folders[0]), *(str(part) for flag in flags for part in flag)]


@pytest.fixture
def coded(tmp_path: Path) -> Place:
    return Place(tmp_path)


def fill(ctx: Context, db: Database, start: int = 0, stop: int = COUNT) -> None:
    with db.begin_transaction(ctx) as t:
        store = btree.Btree.new(ctx, btree.BtreeOptions("kv", is_unique=True), t)
        store.upsert(ctx, [btree.Item(key, f"{key} {VALUE}") for key in range(start, stop)])


def check(ctx: Context, db: Database, stop: int = COUNT) -> None:
    with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
        store = btree.Btree.open(ctx, "kv", t)
        assert store.count() == stop
        items = store.get_values(ctx, [btree.Item(key) for key in range(stop)])
        assert [item.value for item in items] == [f"{key} {VALUE}" for key in range(stop)]


def settle(ctx: Context, place: Place) -> None:
    """Closing makes a checkpoint: what was committed is in segments then."""
    with place.open(ctx) as db:
        fill(ctx, db)


def replace(folder: Path) -> None:
    """A new drive in the place of a dead one."""
    shutil.rmtree(folder)
    folder.mkdir()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = __main__.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out + captured.err


# Settings


@pytest.mark.parametrize(
    "settings",
    [
        ErasureCodingConfig(0, 1, ["a"], True),
        ErasureCodingConfig(1, 0, ["a"], True),
        ErasureCodingConfig(2, 1, ["a", "b"], True),
        ErasureCodingConfig(1, 1, ["a", "a"], True),
        ErasureCodingConfig(1, 1, ["a", ""], True),
        ErasureCodingConfig(1, 1, "ab", True),
        ErasureCodingConfig(True, 1, ["a", "b"], True),
        {"data_shards_count": 1},
        {**ErasureCodingConfig(1, 1, ["a", "b"], True).__dict__, "typo": 1},
        None,
        7,
    ],
)
def test_wrong_settings_are_refused_when_the_database_is_made(ctx: Context, settings: Any) -> None:
    with pytest.raises(ValidationError, match="erasure_config"):
        Database(ctx, storage_path="x", erasure_config={"": settings})


def test_as_many_shards_as_the_engine_can_name(ctx: Context, tmp_path: Path) -> None:
    def use(data: int, parity: int) -> None:
        place = Place(tmp_path / f"{data}", data, parity)
        with place.open(ctx) as db:
            fill(ctx, db, stop=1)

    with pytest.raises(ValidationError, match="256 in all"):
        use(200, 57)
    assert not (tmp_path / "200").exists(), "nothing was made"
    use(254, 2)


def test_a_folder_is_not_given_twice(ctx: Context, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="twice"):
        Database(ctx, stores_folders=[str(tmp_path), str(tmp_path / "." / "")])


def test_a_coded_database_is_not_opened_without_its_drives(ctx: Context, coded: Place) -> None:
    settle(ctx, coded)
    with pytest.raises(ValidationError, match="erasure coding"):
        Database(ctx, storage_path=coded.folders[0]).begin_transaction(ctx)
    with coded.open(ctx) as db:
        check(ctx, db)


def test_drives_of_another_database_are_refused(ctx: Context, coded: Place, tmp_path: Path) -> None:
    settle(ctx, coded)
    with Database(ctx, storage_path=tmp_path / "other") as db:
        fill(ctx, db, 0, 1)
    with pytest.raises(ValidationError, match="database"):
        db = Database(ctx, storage_path=tmp_path / "other", erasure_config=coded.erasure)
        db.begin_transaction(ctx)


def test_the_folder_of_a_coded_database_may_be_lost_as_well(ctx: Context, coded: Place) -> None:
    settle(ctx, coded)
    replace(coded.folders[0])
    with coded.open(ctx) as db:
        check(ctx, db)
        fill(ctx, db, COUNT, COUNT + 10)
        assert "copy 0" in db.status(ctx).summary
        made = db.repair(ctx)
        assert made.copies == [0]
        assert db.status(ctx).summary == "healthy"
    shutil.rmtree(coded.drives[0])
    with coded.open(ctx) as db:
        check(ctx, db, COUNT + 10)


def test_options_of_a_transaction_name_a_coded_database(ctx: Context, coded: Place) -> None:
    options = TransactionOptions(stores_folders=[str(coded.folders[0])], erasure_config=coded.erasure)
    from sop import Transaction

    t = Transaction(ctx, options)
    t.begin()
    btree.Btree.new(ctx, btree.BtreeOptions("kv", is_unique=True), t).add(ctx, btree.Item(1, "one"))
    t.commit(ctx)
    with coded.open(ctx) as db, db.begin_transaction(ctx, TransactionMode.ForReading) as t:
        assert btree.Btree.open(ctx, "kv", t).get_values(ctx, btree.Item(1))[0].value == "one"


# Losing drives


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_all_three_kinds_of_store_survive_the_loss_of_any_drive(
    ctx: Context, coded: Place, lost: int
) -> None:
    with coded.open(ctx, VectorDatabase) as db:
        with db.begin_transaction(ctx) as t:
            fill_in = btree.Btree.new(ctx, btree.BtreeOptions("kv", is_unique=True), t)
            fill_in.upsert(ctx, [btree.Item(key, f"{key} {VALUE}") for key in range(COUNT)])
            vectors = db.open_vector_store(ctx, t, "vectors")
            vectors.upsert_batch(ctx, [Item(str(n), [n, n * n, 1], {"n": n}) for n in range(100)])
            db.open_model_store(ctx, t, "models").save(ctx, "c", "m", Model("m", "a", {}, [1.5]))
    shutil.rmtree(coded.drives[lost])
    with coded.open(ctx, VectorDatabase) as db:
        check(ctx, db)
        assert db.open(ctx, "vectors").query(ctx, vector=[7, 49, 1], k=1)[0].id == "7"
        assert db.open_model_store(ctx, "models").get(ctx, "c", "m")["parameters"] == [1.5]


def test_losing_more_than_parity_is_a_typed_error_that_says_what_to_do(ctx: Context, coded: Place) -> None:
    settle(ctx, coded)
    for drive in coded.drives[:2]:
        shutil.rmtree(drive)
    with coded.open(ctx) as db:
        with pytest.raises(DrivesLostError) as caught:
            check(ctx, db)
        assert isinstance(caught.value, StorageError)


def test_drives_that_come_back_under_other_paths_are_found(ctx: Context, coded: Place) -> None:
    settle(ctx, coded)
    moved = [drive.rename(drive.with_name(f"elsewhere{n}")) for n, drive in enumerate(coded.drives)]
    coded.erasure = {"": ErasureCodingConfig(2, 1, [str(drive) for drive in reversed(moved)], False)}
    with coded.open(ctx) as db:
        check(ctx, db)
        assert db.status(ctx).healthy


def test_a_replaced_drive_is_rebuilt_while_it_is_used(ctx: Context, coded: Place) -> None:
    settle(ctx, coded)
    replace(coded.drives[1])
    with coded.open(ctx) as db:
        status = db.status(ctx)
        assert not status.healthy
        assert "drive 1" in status.summary
        told: list[tuple[int, int]] = []
        made = db.repair(ctx, lambda done, total: told.append((done, total)))
        assert made.rebuilt > 0
        assert made.failed == []
        assert told
        assert db.status(ctx).summary == "healthy"
        assert db.scrub(ctx).intact
    shutil.rmtree(coded.drives[0])
    with coded.open(ctx) as db:
        check(ctx, db)


def damage(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "emptied":
        data = bytearray()
    elif how == "cut":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("how", ["emptied", "cut", "flipped"])
def test_a_damaged_shard_is_found_by_a_scrub_and_repaired(ctx: Context, coded: Place, how: str) -> None:
    coded.erasure = {"": ErasureCodingConfig(2, 1, [str(d) for d in coded.drives], False)}
    settle(ctx, coded)
    shard = max((f for f in coded.drives[0].rglob("*") if f.is_file()), key=lambda file: file.stat().st_size)
    damage(shard, how)
    with coded.open(ctx) as db:
        check(ctx, db)
        found = db.scrub(ctx)
        assert not found.intact
        assert str(shard) in [finding.file for finding in found.findings]
        assert db.repair(ctx).rebuilt == 1
        assert db.scrub(ctx).intact


def test_a_read_repairs_what_it_meets_if_it_is_told_to(ctx: Context, coded: Place) -> None:
    settle(ctx, coded)
    shard = max((f for f in coded.drives[0].rglob("*") if f.is_file()), key=lambda file: file.stat().st_size)
    damage(shard, "emptied")
    with coded.open(ctx) as db:
        check(ctx, db)
    with coded.open(ctx) as db:
        assert db.scrub(ctx).intact


def test_a_store_may_have_drives_of_its_own(ctx: Context, tmp_path: Path) -> None:
    place = Place(tmp_path, store="vectors")
    with place.open(ctx, VectorDatabase) as db:
        fill(ctx, db)
        db.open(ctx, "vectors").upsert_batch(ctx, [Item(str(n), [n, 1], {}) for n in range(50)])
    shutil.rmtree(place.drives[2])
    with place.open(ctx, VectorDatabase) as db:
        check(ctx, db)
        assert db.open(ctx, "vectors").count(ctx) == 50
        [group] = db.status(ctx).sets
        assert (group.name, group.data, group.parity) == ("vectors", 2, 1)


# Mirrored folders


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_of_three_folders_any_may_be_lost(ctx: Context, tmp_path: Path, lost: int) -> None:
    place = Place(tmp_path, data=0, mirrors=2)
    settle(ctx, place)
    replace(place.folders[lost])
    with place.open(ctx) as db:
        check(ctx, db)
        fill(ctx, db, COUNT, COUNT + 10)
        assert not db.status(ctx).healthy
        assert db.reinstate(ctx).healthy
        check(ctx, db, COUNT + 10)
    for other in range(3):
        if other != lost:
            shutil.rmtree(place.folders[other])
    with place.open(ctx) as db:
        check(ctx, db, COUNT + 10)


def test_the_second_of_two_folders_takes_over_when_a_person_says_so(ctx: Context, tmp_path: Path) -> None:
    place = Place(tmp_path, data=0, mirrors=1)
    settle(ctx, place)
    replace(place.folders[0])
    with place.open(ctx) as db:
        check(ctx, db)
        with pytest.raises(DrivesLostError, match="reinstate"):
            fill(ctx, db, COUNT, COUNT + 1)
        db.reinstate(ctx, lost=[0])
        fill(ctx, db, COUNT, COUNT + 10)
        assert db.reinstate(ctx).healthy
    shutil.rmtree(place.folders[1])
    with place.open(ctx) as db:
        check(ctx, db, COUNT + 10)


# The command line


def test_status_scrub_and_repair_from_the_command_line(
    ctx: Context, coded: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    settle(ctx, coded)
    code, out = run(capsys, "status", *coded.arguments())
    assert (code, "healthy" in out) == (0, True), out
    replace(coded.drives[1])
    code, out = run(capsys, "status", "--json", *coded.arguments())
    assert code == 1, out
    assert not json.loads(out)["healthy"]
    code, out = run(capsys, "scrub", *coded.arguments())
    assert code == 1, out
    code, out = run(capsys, "repair", "--missing-only", *coded.arguments())
    assert (code, "rebuilt" in out) == (0, True), out
    code, out = run(capsys, "scrub", "--quiet", *coded.arguments())
    assert (code, out) == (0, "")


def test_status_of_a_plain_database_says_so(
    ctx: Context, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Database(ctx, storage_path=tmp_path / "db") as db:
        fill(ctx, db, 0, 3)
        assert db.status(ctx).healthy
        assert db.scrub(ctx).intact
        assert db.repair(ctx).rebuilt == 0
    code, out = run(capsys, "status", str(tmp_path / "db"))
    assert (code, out) == (0, "no mirrored folders and no erasure coding\n")


def test_reinstate_from_the_command_line(
    ctx: Context, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, data=0, mirrors=2)
    settle(ctx, place)
    replace(place.folders[1])
    code, out = run(capsys, "status", *place.arguments())
    assert code == 1, out
    code, out = run(capsys, "reinstate", *place.arguments())
    assert (code, "healthy" in out) == (0, True), out


@pytest.mark.parametrize("call", [Database.status, Database.scrub, Database.repair, Database.reinstate])
def test_where_there_is_no_database_none_is_made(
    ctx: Context, tmp_path: Path, call: Callable[..., Any]
) -> None:
    with pytest.raises(ValidationError, match="no database"):
        call(Database(ctx, storage_path=tmp_path / "none"), ctx)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_open_is_not_opened_with_other_mirrors(ctx: Context, tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("first", "second", "third", "fourth")]
    with Database(ctx, stores_folders=folders[:3]) as db:
        fill(ctx, db, 0, 1)
        for others in (folders[:1], folders[:2], [*folders[:2], folders[3]]):
            with pytest.raises(LockedError, match="open with other stores_folders"):
                Database(ctx, stores_folders=others).begin_transaction(ctx)
        with Database(ctx, stores_folders=[folders[0], folders[2], folders[1]]) as same:
            check(ctx, same, 1)
    with pytest.raises(ValidationError, match="give all of them"):
        Database(ctx, stores_folders=folders[:2]).begin_transaction(ctx)
