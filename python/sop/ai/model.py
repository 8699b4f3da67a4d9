"""Model stores: machine learning models by category and name."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

from .. import _json
from .._folder import Folder
from .._library import Handle, Opened, call, call_handle, call_json, call_text, native
from ..context import Context, context_id
from ..transaction import NIL, Transaction, transaction_handle

# The store of those who name none, as 2.0.17 called it.
_UNNAMED = "global"


@dataclass
class Model:
    """A model. Any other dataclass, dict, list or text can be saved as well."""

    id: str
    algorithm: str = ""
    hyperparameters: Dict[str, Any] = field(default_factory=dict)
    parameters: List[float] = field(default_factory=list)
    metrics: Dict[str, float] = field(default_factory=dict)
    is_active: bool = False


class LoadedModel(Dict[str, Any]):
    """The fields of a saved model. `loaded["model"]` is the model itself, unless a field has that name."""

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

    def save(self, ctx: Context, category: str, name: str, model: Any) -> None:
        """Saves a model, replacing what was there."""
        text = _json.encode(model, "the model")
        call(native.sop_model_save, *self._of(ctx), *_texts(category, name), text, len(text))

    def get(self, ctx: Context, category: str, name: str) -> Any:
        """The saved model: a LoadedModel if it is an object, else as saved. ItemNotFoundError for a miss."""
        text = call_text(native.sop_model_get, *self._of(ctx), *_texts(category, name))
        model = json.loads(text or "null")
        return LoadedModel(model) if isinstance(model, dict) else model

    def delete(self, ctx: Context, category: str, name: str) -> None:
        """Removes a model. An unknown one is no error."""
        call(native.sop_model_delete, *self._of(ctx), *_texts(category, name))

    def list(self, ctx: Context, category: str) -> List[str]:
        """The names in a category, in order."""
        text = _json.encode_text(category, "the category")
        names: List[str] = call_json(native.sop_model_list, *self._of(ctx), text, len(text))
        return names

    def _of(self, ctx: Context) -> tuple[int, int]:
        return context_id(ctx), self._handle.value


def _texts(category: str, name: str) -> tuple[bytes, int, bytes, int]:
    """The two arguments that name a model, with their lengths."""
    of_category = _json.encode_text(category, "the category")
    of_name = _json.encode_text(name, "the name of a model")
    return of_category, len(of_category), of_name, len(of_name)
