"""Model stores: machine learning models by category, name and version, with their files."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
import uuid
from dataclasses import dataclass, field
from html import escape
from typing import Any, BinaryIO, Dict, List, Mapping, Optional, Sequence, Tuple, cast

from .. import _json
from .._display import ROWS_MAX, table
from .._folder import Folder
from .._library import Handle, Opened, call, call_handle, call_json, call_number, call_text, native
from .._progress import Progress, check
from ..context import Context, context_id
from ..errors import CorruptionError, Error, ItemNotFoundError, ValidationError
from ..transaction import NIL, Transaction, transaction_handle
from . import _estimator
from ._artifact import CHUNK, ArtifactReader, ArtifactWriter, format_bytes, pieces_of, size_of

# The store of those who name none, as 2.0.17 called it.
_UNNAMED = "global"

# How often an artefact is written again when its transaction lost against another one.
_RETRIES = 5


@dataclass
class Model:
    """A model. Any other dataclass, dict, list or text can be saved as well."""

    id: str
    algorithm: str = ""
    hyperparameters: Dict[str, Any] = field(default_factory=dict)
    parameters: List[float] = field(default_factory=list)
    metrics: Dict[str, float] = field(default_factory=dict)
    is_active: bool = False


@dataclass
class Artifact:
    """A file that was saved with a model: its length, its SHA-256 in hexadecimal digits, what it is."""

    bytes: int
    sha256: str
    format: str


@dataclass
class ModelVersion:
    """What is known of a version of a model. `sha256` is of its JSON text."""

    version: int
    saved_at: datetime.datetime
    is_active: bool
    metrics: Optional[Dict[str, float]]
    sha256: str
    artifact: Optional[Artifact]


class LoadedModel(Dict[str, Any]):
    """The fields of a saved model. `loaded["model"]` is the model itself, unless a field has that name.

    `version` says which one it is.
    """

    version: ModelVersion

    def __missing__(self, key: str) -> Any:
        if key == "model":
            return self
        raise KeyError(key)


class ModelStore(Opened):
    """A model store, inside a transaction or with calls that commit by themselves. Opened by a database."""

    def __init__(self, handle: Handle, folder: Folder, name: str, trans: Transaction | None) -> None:
        self._handle = handle
        self._folder = folder
        self._name = name
        self._transaction = trans

    @classmethod
    def _open(
        cls, ctx: Context | None, folder: Folder, name: Any, trans: Transaction | None = None
    ) -> ModelStore:
        context = context_id(ctx)
        owner = folder.open(context) if trans is None else transaction_handle(trans, folder.path)
        text = _json.encode_text(name, "the name of a model store")
        handle = call_handle(native.sop_model_open, context, owner.value, text, len(text))
        return cls(handle, folder, name, trans)

    def __reduce__(self) -> Tuple[Any, ...]:
        """Pickled by the folder and options of its database: where it is unpickled it is opened anew."""
        if self._transaction is not None:
            raise TypeError("a store inside a transaction cannot be pickled: a transaction is of one process")
        return ModelStore._open, (None, self._folder, self._name)

    def __repr__(self) -> str:
        inside = "" if self._transaction is None else " in a transaction"
        return f"<sop.ai.ModelStore {self._name!r} of {self._folder.path!r}{inside}>"

    def _repr_html_(self) -> str:
        if self._transaction is not None:
            return escape(repr(self))  # what it looked at would count as read
        try:
            names = [(kind, name) for kind in self.categories(None) for name in self.list(None, kind)]
            shown = [(*place, self.versions(None, *place)) for place in names[:ROWS_MAX]]
        except Error as error:
            return escape(f"{self!r}: {error}")
        rows = [(kind, name, len(known), _active(known)) for kind, name, known in shown]
        return table(f"{self._name}: {len(names)} models", ("category", "name", "versions", "active"), rows)

    @staticmethod
    def open_btree_store(ctx: Context, trans: Transaction) -> ModelStore:
        """The model store without a name of a transaction's database."""
        transaction_handle(trans)  # raises for what is none
        return ModelStore._open(ctx, trans._begun().folder, _UNNAMED, trans)

    @property
    def id(self) -> uuid.UUID:
        """Id of this opened store."""
        return uuid.UUID(call_text(native.sop_handle_uuid, self._handle.value))

    @property
    def transaction_id(self) -> uuid.UUID:
        """Id of its transaction, all zero without one."""
        return NIL if self._transaction is None else self._transaction.transaction_id

    def save(
        self,
        ctx: Context,
        category: str,
        name: str,
        model: Any,
        artifact: Any = None,
        *,
        format: str | None = None,
        metrics: Mapping[str, float] | None = None,
        is_active: bool | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Saves a model as a new version; gives its number: 1, 2, and so on. One that `is_active` is the
        active one then.

        `artifact` is a file of any size that belongs to it: bytes, the path of a file, or a file open for
        reading; it is copied piece by piece. `format` says what it is, in your words. An estimator of
        scikit-learn is saved as it is, through joblib or skops (`format`), with `metrics` and `is_active` as
        given here. `progress`, here and below, is told the bytes done and, where that is known, to do; what
        it raises stops the call, and nothing is saved.
        """
        check(progress)
        if _estimator.is_estimator(model):
            if artifact is not None:
                raise ValidationError("an estimator is saved as the artefact: give no other one")
            kind = _estimator.choose(format)
            described = Model(name, metrics=dict(metrics or {}), is_active=bool(is_active))
            text = _json.encode({**described.__dict__, **_estimator.describe(model)}, "the model")

            def dump(file: BinaryIO) -> None:
                _estimator.dump(model, kind, file)

            return self._upload(ctx, category, name, text, kind, dump, progress)
        if metrics is not None or is_active is not None:
            raise ValidationError(
                "metrics and is_active are for estimators: give them as fields of the model"
            )
        text = _json.encode(model, "the model")
        if artifact is None:
            if format is not None:
                raise ValidationError("format is that of an artefact, and there is none")
            names = _texts(category, name)
            return call_number(native.sop_model_save, *self._of(ctx), *names, text, len(text))
        pieces = pieces_of(artifact)

        def write(file: BinaryIO) -> None:
            for piece in pieces():
                file.write(piece)

        total = 0 if progress is None else size_of(artifact)
        return self._upload(ctx, category, name, text, format, write, progress, total)

    def _upload(
        self,
        ctx: Context,
        category: str,
        name: str,
        text: bytes,
        format: str | None,
        write: Any,
        progress: Progress | None,
        total: int = 0,
    ) -> int:
        place, kind = self._of_names(ctx, category, name), format_bytes(format)
        for attempt in range(_RETRIES + 1):
            try:
                with ArtifactWriter(*place, text, kind, progress, total) as file:
                    write(file)
                return cast(int, file.version)
            except Error as error:
                # In a transaction of the caller it is the caller's to run again.
                if not error.retryable or self._transaction is not None or attempt == _RETRIES:
                    raise
        raise AssertionError

    def writer(
        self, ctx: Context, category: str, name: str, model: Any, *, format: str | None = None
    ) -> ArtifactWriter:
        """A file to write the artefact of a new version to.

        As a context manager it saves the model on exit.
        """
        text = _json.encode(model, "the model")
        return ArtifactWriter(*self._of_names(ctx, category, name), text, format_bytes(format))

    def get(self, ctx: Context, category: str, name: str, version: int | None = None) -> Any:
        """The model, its newest version if none is named: a LoadedModel if it is an object, else as it was
        saved.

        The field `is_active`, if it has one, says what is so now. ItemNotFoundError for a miss.
        """
        found = self._get(ctx, category, name, version)
        model = found.pop("model")
        if not isinstance(model, dict):
            return model
        loaded = LoadedModel(model)
        loaded.version = _version(found)
        return loaded

    def _get(self, ctx: Context, category: str, name: str, version: int | None) -> Dict[str, Any]:
        number = _number(version)
        text = call_text(native.sop_model_get, *self._of(ctx), *_texts(category, name), number)
        return cast(Dict[str, Any], json.loads(text or "{}"))

    def versions(self, ctx: Context | None, category: str, name: str) -> List[ModelVersion]:
        """What is known of all versions, the oldest first; none for a model that does not exist."""
        found = call_json(native.sop_model_versions, *self._of(ctx), *_texts(category, name))
        return [_version(version) for version in found]

    def active(self, ctx: Context, category: str, name: str) -> int | None:
        """The number of the active version, None if none is."""
        return call_number(native.sop_model_active, *self._of(ctx), *_texts(category, name)) or None

    def promote(self, ctx: Context, category: str, name: str, version: int | None) -> None:
        """Makes a version the active one, and the one before not; None: none is active then."""
        call(native.sop_model_promote, *self._of(ctx), *_texts(category, name), _number(version))

    def delete(self, ctx: Context, category: str, name: str, version: int | None = None) -> None:
        """Removes a version with its artefact, or all of them. An unknown one is no error."""
        call(native.sop_model_delete, *self._of(ctx), *_texts(category, name), _number(version))

    def list(self, ctx: Context | None, category: str) -> List[str]:
        """The names in a category, in order."""
        text = _json.encode_text(category, "the category")
        names: List[str] = call_json(native.sop_model_list, *self._of(ctx), text, len(text))
        return names

    def categories(self, ctx: Context | None) -> Sequence[str]:
        """The categories that have models, in order."""
        names: Sequence[str] = call_json(native.sop_model_categories, *self._of(ctx))
        return names

    def open_artifact(
        self, ctx: Context, category: str, name: str, version: int | None = None
    ) -> io.BufferedReader:
        """The artefact of a version (the newest one if none is named) as a file, read as it is needed."""
        return self._open_artifact(ctx, category, name, version, None)

    def _open_artifact(
        self, ctx: Context, category: str, name: str, version: int | None, progress: Progress | None
    ) -> io.BufferedReader:
        check(progress)
        found = _version(self._get(ctx, category, name, version))
        if found.artifact is None:
            raise ItemNotFoundError(f"the model {category}/{name} was saved without an artefact")
        place = self._of_names(ctx, category, name)
        size = found.artifact.bytes
        return io.BufferedReader(ArtifactReader(*place, found.version, size, progress), CHUNK)

    def artifact(
        self,
        ctx: Context,
        category: str,
        name: str,
        version: int | None = None,
        *,
        progress: Progress | None = None,
    ) -> bytes:
        """The bytes of the artefact of a version, as they were saved: their SHA-256 is checked."""
        whole = io.BytesIO()
        self._copy_artifact(ctx, category, name, version, whole, progress)
        return whole.getvalue()

    def download(
        self,
        ctx: Context,
        category: str,
        name: str,
        path: str | os.PathLike[str],
        version: int | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Copies the artefact of a version to a file, piece by piece.

        The file is there once it is whole and checked.
        """
        part = f"{os.fspath(path)}.part-{uuid.uuid4().hex[:8]}"
        try:
            with open(part, "xb") as file:
                self._copy_artifact(ctx, category, name, version, file, progress)
            os.replace(part, path)
        except BaseException:
            if os.path.exists(part):
                os.remove(part)
            raise

    def _copy_artifact(
        self,
        ctx: Context,
        category: str,
        name: str,
        version: int | None,
        target: BinaryIO,
        progress: Progress | None,
    ) -> None:
        found = _version(self._get(ctx, category, name, version))
        digest = hashlib.sha256()
        with self._open_artifact(ctx, category, name, found.version, progress) as source:
            while piece := source.read(CHUNK):
                digest.update(piece)
                target.write(piece)
        if found.artifact is None or digest.hexdigest() != found.artifact.sha256:
            raise CorruptionError(f"the artefact of {category}/{name} is not the one that was saved")

    def load(
        self,
        ctx: Context,
        category: str,
        name: str,
        version: int | None = None,
        *,
        trusted: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """The estimator that was saved as this model.

        One saved through joblib is a pickle: load only what you trust. One saved through skops names the
        types that it needs; those that skops does not know are listed in `trusted`.
        """
        found = _version(self._get(ctx, category, name, version))
        with self._open_artifact(ctx, category, name, found.version, progress) as file:
            kind = found.artifact.format if found.artifact else ""
            return _estimator.load(kind, cast(BinaryIO, file), trusted)

    def _of_names(self, ctx: Context, category: str, name: str) -> tuple[Context, Handle, Any]:
        return ctx, self._handle, _texts(category, name)

    def _of(self, ctx: Context | None) -> tuple[int, int]:
        return context_id(ctx), self._handle.value


def _active(versions: Sequence[ModelVersion]) -> str:
    return ", ".join(str(version.version) for version in versions if version.is_active)


def _texts(category: str, name: str) -> tuple[bytes, int, bytes, int]:
    """The two arguments that name a model, with their lengths."""
    of_category = _json.encode_text(category, "the category")
    of_name = _json.encode_text(name, "the name of a model")
    return of_category, len(of_category), of_name, len(of_name)


def _number(version: Any) -> int:
    """A version as the library numbers it: 0 is none."""
    if version is None:
        return 0
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version < 1 << 63:
        raise ValidationError(f"a version is a number from 1 on, or None, not {version!r}")
    return version


def _version(found: Dict[str, Any]) -> ModelVersion:
    artifact = found["artifact"]
    return ModelVersion(
        found["version"],
        datetime.datetime.fromtimestamp(found["saved_at"] / 1000, datetime.timezone.utc),
        found["is_active"],
        found["metrics"],
        found["sha256"],
        None if artifact is None else Artifact(**artifact),
    )
