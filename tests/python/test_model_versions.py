"""Versions of models, the active one, and artefacts: bytes, files and estimators."""

from __future__ import annotations

import datetime
import gc
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import environment
from sop import (
    ConflictError,
    Context,
    Database,
    InvalidTransactionStateError,
    ItemNotFoundError,
    TransactionMode,
    UnsupportedError,
    ValidationError,
)
from sop.ai import Model, ModelStore, _estimator


@pytest.fixture
def models(ctx: Context, db: Database) -> ModelStore:
    return db.open_model_store(ctx, "models")


# Versions


def test_every_save_is_a_version(ctx: Context, models: ModelStore) -> None:
    before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=1)
    assert models.save(ctx, "c", "n", Model("one", metrics={"f1": 0.5})) == 1
    assert models.save(ctx, "c", "n", Model("two")) == 2
    assert models.get(ctx, "c", "n")["id"] == "two"
    assert models.get(ctx, "c", "n", 1)["id"] == "one"
    assert models.get(ctx, "c", "n", version=1).version.metrics == {"f1": 0.5}
    versions = models.versions(ctx, "c", "n")
    assert [version.version for version in versions] == [1, 2]
    assert before < versions[0].saved_at <= versions[1].saved_at
    assert len(versions[0].sha256) == 64
    assert versions[0].sha256 != versions[1].sha256
    assert models.versions(ctx, "c", "unknown") == []
    with pytest.raises(ItemNotFoundError, match="version 3"):
        models.get(ctx, "c", "n", 3)


def test_at_most_one_version_is_active(ctx: Context, models: ModelStore) -> None:
    models.save(ctx, "c", "n", Model("one", is_active=True))
    assert models.active(ctx, "c", "n") == 1
    models.save(ctx, "c", "n", Model("two", is_active=True))
    assert models.active(ctx, "c", "n") == 2
    assert [models.get(ctx, "c", "n", number)["is_active"] for number in (1, 2)] == [False, True]
    models.save(ctx, "c", "n", Model("three"))
    assert models.active(ctx, "c", "n") == 2
    models.promote(ctx, "c", "n", 1)
    assert [version.is_active for version in models.versions(ctx, "c", "n")] == [True, False, False]
    models.promote(ctx, "c", "n", None)
    assert models.active(ctx, "c", "n") is None
    with pytest.raises(ItemNotFoundError):
        models.promote(ctx, "c", "n", 4)
    with pytest.raises(ItemNotFoundError):
        models.active(ctx, "c", "unknown")


def test_versions_are_deleted_one_by_one_or_at_once(ctx: Context, models: ModelStore) -> None:
    for name in ("one", "two", "three"):
        models.save(ctx, "c", "n", Model(name))
    models.delete(ctx, "c", "n", 3)
    models.delete(ctx, "c", "n", 3)
    assert models.get(ctx, "c", "n")["id"] == "two"
    assert models.save(ctx, "c", "n", Model("four")) == 4
    assert list(models.categories(ctx)) == ["c"]
    models.delete(ctx, "c", "n")
    assert list(models.categories(ctx)) == []
    assert models.versions(ctx, "c", "n") == []


@pytest.mark.parametrize("version", [0, -1, True, "1", 1.0, 1 << 64])
def test_a_version_is_a_number_from_1_on(ctx: Context, models: ModelStore, version: object) -> None:
    for call in (models.get, models.delete, models.promote, models.artifact):
        with pytest.raises(ValidationError):
            call(ctx, "c", "n", version)


def test_two_who_save_the_same_model_at_once_conflict(ctx: Context, db: Database) -> None:
    one, two = db.begin_transaction(ctx), db.begin_transaction(ctx)
    for t in (one, two):
        db.open_model_store(ctx, t, "models").save(ctx, "c", "n", Model("x"), artifact=b"bytes")
    one.commit(ctx)
    with pytest.raises(ConflictError):
        two.commit(ctx)
    assert len(db.open_model_store(ctx, "models").versions(ctx, "c", "n")) == 1


# Artefacts


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (3 << 20) + 7])
def test_bytes_come_back_exactly(ctx: Context, models: ModelStore, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    file = tmp_path / "weights.bin"
    file.write_bytes(data)
    sources = (data, bytearray(data), memoryview(data), file, str(file), io.BytesIO(data))
    for number, source in enumerate(sources, 1):
        assert models.save(ctx, "c", "n", Model("m"), source, format="bin") == number
        assert models.artifact(ctx, "c", "n") == data
        found = models.versions(ctx, "c", "n")[-1].artifact
        assert found is not None
        assert (found.bytes, found.format) == (size, "bin")
    target = tmp_path / "copy.bin"
    models.download(ctx, "c", "n", target, version=2)
    assert target.read_bytes() == data
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.bin"]


def test_an_artefact_is_read_as_a_file(ctx: Context, models: ModelStore) -> None:
    data = os.urandom(3 << 20)
    models.save(ctx, "c", "n", Model("m"), data)
    with models.open_artifact(ctx, "c", "n") as file:
        assert file.read(10) == data[:10]
        file.seek(-5, io.SEEK_END)
        assert file.read() == data[-5:]
        file.seek(2_000_000)
        assert file.read(100) == data[2_000_000:2_000_100]
        assert file.tell() == 2_000_100


def test_the_file_of_an_artefact_holds_its_context(ctx: Context, models: ModelStore) -> None:
    models.save(ctx, "c", "n", Model("m"), b"bytes")
    with models.writer(Context(), "c", "n", Model("m")) as file:
        gc.collect()
        file.write(b"more")
    with models.open_artifact(Context(), "c", "n") as file:
        gc.collect()
        assert file.read() == b"more"


def test_an_artefact_is_written_as_a_file(ctx: Context, models: ModelStore) -> None:
    with models.writer(ctx, "c", "n", Model("m"), format="text") as file:
        file.write(b"some ")
        file.write(memoryview(bytearray(b"bytes")))
    assert file.version == 1
    assert models.artifact(ctx, "c", "n") == b"some bytes"
    with pytest.raises(RuntimeError), models.writer(ctx, "c", "n", Model("m")) as file:
        file.write(b"x" * (2 << 20))
        raise RuntimeError
    assert len(models.versions(ctx, "c", "n")) == 1
    with pytest.raises(ValueError, match="closed|given up|saved"):
        file.write(b"more")


def test_an_artefact_belongs_to_its_transaction(ctx: Context, db: Database, models: ModelStore) -> None:
    with db.begin_transaction(ctx) as t:
        inside = db.open_model_store(ctx, t, "models")
        inside.save(ctx, "c", "n", Model("m"), b"bytes")
        assert inside.artifact(ctx, "c", "n") == b"bytes"
        assert models.list(ctx, "c") == []
        t.rollback(ctx)
    assert models.list(ctx, "c") == []
    t = db.begin_transaction(ctx, TransactionMode.ForReading)
    with pytest.raises(InvalidTransactionStateError):
        db.open_model_store(ctx, t, "models").save(ctx, "c", "n", Model("m"), b"bytes")


def test_wrong_artefacts(ctx: Context, models: ModelStore, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("text")
    with open(text) as opened:
        for wrong in (7, [1], tmp_path / "missing", opened):
            with pytest.raises(ValidationError):
                models.save(ctx, "c", "n", Model("m"), wrong)
    for options in ({"format": "x"}, {"metrics": {}}, {"is_active": True}):
        with pytest.raises(ValidationError):
            models.save(ctx, "c", "n", Model("m"), **options)
    assert models.versions(ctx, "c", "n") == []
    models.save(ctx, "c", "n", Model("m"))
    for call in (models.artifact, models.open_artifact, models.load):
        with pytest.raises(ItemNotFoundError, match="without an artefact"):
            call(ctx, "c", "n")


SMALL_MEMORY = """
import resource, sys
from sop import Context
from sop.ai import Database, Model

folder, source, target = sys.argv[1:]
ctx = Context()
with Database(ctx, storage_path=folder) as db:
    models = db.open_model_store(ctx, "models")
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    models.save(ctx, "c", "n", Model("m"), source)
    models.download(ctx, "c", "n", target)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
"""


def test_a_file_of_a_gibibyte_takes_little_memory(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    piece = os.urandom(1 << 20)
    with open(source, "wb") as file:
        for number in range(1024):
            file.write(number.to_bytes(4, "little") + piece[4:])
    done = subprocess.run(
        [sys.executable, "-c", SMALL_MEMORY, str(tmp_path / "db"), str(source), str(target)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout) * (1 if sys.platform != "darwin" else 1 / 1024)
    assert grown < 300 << 10, f"{grown / 1024:.0f} MiB"
    assert target.stat().st_size == 1 << 30
    with open(source, "rb") as one, open(target, "rb") as other:
        while block := one.read(1 << 24):
            assert other.read(1 << 24) == block


# Estimators


@pytest.mark.parametrize("format", _estimator.FORMATS)
def test_an_estimator_comes_back_as_it_was(ctx: Context, models: ModelStore, format: str) -> None:
    from sklearn import linear_model

    estimator = linear_model.LogisticRegression(C=0.5).fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    version = models.save(
        ctx, "classifiers", "churn", estimator, format=format, metrics={"f1": 0.9}, is_active=True
    )
    about = models.get(ctx, "classifiers", "churn", version)
    assert about["algorithm"].endswith("LogisticRegression")
    assert about["hyperparameters"]["C"] == 0.5
    assert (about["metrics"], about["is_active"]) == ({"f1": 0.9}, True)
    loaded = models.load(ctx, "classifiers", "churn")
    assert (loaded.predict([[0.2], [2.8]]) == estimator.predict([[0.2], [2.8]])).all()
    assert (loaded.coef_ == estimator.coef_).all()


@pytest.mark.parametrize("format", _estimator.FORMATS)
def test_saving_and_loading_an_estimator_tell_the_bytes(
    ctx: Context, models: ModelStore, format: str
) -> None:
    from sklearn import linear_model

    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models.save(ctx, "c", "n", linear_model.Ridge(), format=format, progress=stop)
    assert models.versions(ctx, "c", "n") == []
    models.save(
        ctx, "c", "n", linear_model.Ridge(), format=format, progress=lambda *figures: told.append(figures)
    )
    artifact = models.versions(ctx, "c", "n")[0].artifact
    assert artifact is not None and told == sorted(told) and told[-1] == (artifact.bytes, artifact.bytes)
    told.clear()
    models.load(ctx, "c", "n", progress=lambda *figures: told.append(figures))
    assert told and all(figures == (artifact.bytes, artifact.bytes) for figures in told)
    with pytest.raises(KeyboardInterrupt):
        models.load(ctx, "c", "n", progress=stop)


def all_estimators() -> list[tuple[str, type]]:
    from sklearn import utils

    return list(utils.all_estimators())


def test_every_estimator_that_needs_no_arguments_makes_the_round_trip(ctx: Context, db: Database) -> None:
    """As many as the pinned version of scikit-learn has."""
    tried = 0
    for name, kind in all_estimators():
        try:
            estimator = kind()
        except TypeError:
            continue  # it is made of other estimators
        with db.begin_transaction(ctx) as t:
            inside = db.open_model_store(ctx, t, "models")
            inside.save(ctx, "estimators", name, estimator, format="joblib")
            loaded = inside.load(ctx, "estimators", name)
        assert type(loaded) is kind
        assert repr(loaded.get_params()) == repr(estimator.get_params()), name
        tried += 1
    assert tried >= 180, tried


def test_an_estimator_needs_a_library_that_writes_it(
    ctx: Context, models: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Estimator:
        def get_params(self, deep: bool = True) -> dict:
            return {"self": self, "nan": float("nan"), "list": [1, None]}

        def fit(self) -> None: ...

    assert _estimator.describe(Estimator())["hyperparameters"]["list"] == [1, None]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match="pip install joblib"):
        models.save(ctx, "c", "n", Estimator())
    with pytest.raises(ValidationError, match="joblib or skops"):
        models.save(ctx, "c", "n", Estimator(), format="pickle")
