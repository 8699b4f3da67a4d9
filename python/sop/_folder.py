"""The folder of a database: its options, checked at once, and its native handle, opened on first use."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any, Dict, List, Mapping, Sequence

from ._json import encode
from ._library import Handle, call, call_handle, native
from ._lock import Lock
from .errors import ValidationError

MIN_HASH_MOD_VALUE = 250
MAX_HASH_MOD_VALUE = 750_000
MIN_MEMORY_LIMIT = 16 << 20

# Databases that transactions made from options leave open, so that the next one finds them open.
_SHARED_MAX = 16

_NO_ERASURE = encode(None)

# Of an ErasureCodingConfig.
_CODING_FIELDS = (
    "data_shards_count",
    "parity_shards_count",
    "base_folder_paths_across_drives",
    "repair_corrupted_shards",
)


class Folder:
    """One database: where it lies, and its handle once something has used it.

    `placement` is what decides where its bytes are, and whether they may change: two databases of equal
    placement are the same.
    """

    def __init__(
        self,
        storage_path: str | os.PathLike[str] = "",
        stores_folders: Sequence[str | os.PathLike[str]] | None = None,
        db_type: int = 0,
        erasure_config: Mapping[str, Any] | None = None,
        registry_hash_mod: int = 0,
        memory_limit: int | None = None,
        as_found: bool = False,
        drives: Sequence[str | os.PathLike[str]] = (),
        read_only: bool = False,
    ) -> None:
        self._given = (registry_hash_mod, memory_limit, as_found)
        self.read_only = read_only
        given = [storage_path] if stores_folders is None else _sequence(stores_folders)
        folders = [_path(folder) for folder in given or [storage_path]]
        if "" in folders:
            raise ValidationError("a database needs a folder: storage_path, or the first of stores_folders")
        _check(db_type, registry_hash_mod, memory_limit)
        # What is relative is relative to the working folder of now, not to that of the first use.
        self.folders = [os.path.abspath(folder) for folder in folders]
        if len(set(self.folders)) < len(self.folders):
            raise ValidationError("stores_folders names a folder twice: each copy needs one of its own")
        self.path = self.folders[0]
        self.db_type = int(db_type)
        self._erasure = erasure = _erasure(erasure_config)
        self._drives = [os.path.abspath(_path(drive)) for drive in _sequence(drives)]
        self.erasure_config = encode(erasure, "the erasure_config")
        if not isinstance(read_only, bool):
            raise ValidationError(f"read_only must be True or False, not {read_only!r}")
        placement = {
            "stores_folders": self.folders,
            "db_type": self.db_type,
            "erasure_config": erasure,
            "read_only": read_only,
        }
        self.placement = encode(placement, "the database options")
        others = {
            "registry_hash_mod": registry_hash_mod,
            "memory_limit": memory_limit,
            "as_found": as_found,
            "drives": self._drives,
        }
        self.options = encode({**placement, **others}, "the database options")
        self._handle: Handle | None = None
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by path and options: where it is unpickled it is opened anew."""
        given = (*self._given, self._drives, self.read_only)
        return Folder, (self.path, self.folders, self.db_type, self._erasure, *given)

    def open(self, context: int) -> Handle:
        """The native handle, opened if it is not yet."""
        handle = self._handle
        if handle is not None:
            return handle
        with self._lock:
            if self._handle is None:
                self._handle = call_handle(native.sop_database_open, context, self.options, len(self.options))
            return self._handle

    @property
    def is_open(self) -> bool:
        """Whether there is a native handle."""
        return self._handle is not None

    def covers(self, asked: Folder) -> bool:
        """True when what `asked` names of a database is so in this one; what it leaves out is this one's."""
        return (
            self.folders[: len(asked.folders)] == asked.folders
            and asked.erasure_config in (_NO_ERASURE, self.erasure_config)
            and asked.db_type in (0, self.db_type)
        )

    def close(self, context: int) -> None:
        """Closes the folder in this process, also where transactions made from options left it open."""
        for folder in (*_shared_at(self.placement), self):
            handle = folder._take()
            if handle is not None:
                call(native.sop_database_close, context, handle.value)

    def _take(self) -> Handle | None:
        with self._lock:
            handle, self._handle = self._handle, None
            return handle


def _check(db_type: Any, registry_hash_mod: Any, memory_limit: Any) -> None:
    if db_type not in (0, 1):
        raise ValidationError(f"db_type must be DBType.Standalone or DBType.Clustered, not {db_type!r}")
    if isinstance(registry_hash_mod, bool) or not isinstance(registry_hash_mod, int):
        raise ValidationError("registry_hash_mod must be an int")
    if registry_hash_mod > 0 and not MIN_HASH_MOD_VALUE <= registry_hash_mod <= MAX_HASH_MOD_VALUE:
        raise ValidationError(
            f"registry_hash_mod is {MIN_HASH_MOD_VALUE} to {MAX_HASH_MOD_VALUE}, not {registry_hash_mod}"
        )
    if memory_limit is not None:
        if isinstance(memory_limit, bool) or not isinstance(memory_limit, int):
            raise ValidationError("memory_limit must be an int, in bytes, or None")
        if not MIN_MEMORY_LIMIT <= memory_limit < 1 << 63:
            raise ValidationError(f"memory_limit is at least {MIN_MEMORY_LIMIT} bytes, not {memory_limit}")


def _erasure(config: Any) -> Dict[str, Any] | None:
    """The erasure_config, checked, with absolute paths; None for none."""
    if config is not None and not isinstance(config, Mapping):
        raise ValidationError("erasure_config must be a dict of store names to ErasureCodingConfig")
    return {name: _coding(name, settings) for name, settings in (config or {}).items()} or None


def _coding(name: Any, settings: Any) -> Dict[str, Any]:
    if not isinstance(name, str):
        raise ValidationError(f"erasure_config names stores by str, not {type(name).__name__}")
    where = f"erasure_config of the store {name!r}" if name else 'erasure_config of ""'
    if isinstance(settings, Mapping):
        unknown = [key for key in settings if key not in _CODING_FIELDS]
        if unknown:
            raise ValidationError(f"{where} has no field {unknown[0]!r}: it has {', '.join(_CODING_FIELDS)}")
        fields: List[Any] = [settings.get(field) for field in _CODING_FIELDS]
    else:
        fields = [getattr(settings, field, None) for field in _CODING_FIELDS]
    data, parity, drives, repair = fields
    counts = (("data_shards_count", data), ("parity_shards_count", parity))
    for field, count in counts:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValidationError(f"{where}: {field} must be an int of at least 1, not {count!r}")
    if not isinstance(drives, (list, tuple)) or len(drives) != data + parity:
        raise ValidationError(
            f"{where}: base_folder_paths_across_drives must be a list of {data + parity} folders, one for "
            "each data and parity shard"
        )
    folders = [_path(drive) for drive in drives]
    if "" in folders:
        raise ValidationError(f"{where}: the path of a drive is empty")
    folders = [os.path.abspath(folder) for folder in folders]
    if len(set(folders)) < len(folders):
        raise ValidationError(f"{where}: two drives have the same folder, so losing one would lose both")
    if repair is not None and not isinstance(repair, bool):
        raise ValidationError(f"{where}: repair_corrupted_shards must be True or False, not {repair!r}")
    return dict(zip(_CODING_FIELDS, (data, parity, folders, bool(repair))))


def _sequence(folders: Any) -> Sequence[Any]:
    if not isinstance(folders, (list, tuple)):
        raise ValidationError("stores_folders must be a list of paths")
    return folders


def _path(value: Any) -> str:
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise ValidationError(f"a folder must be a str or a path, not {type(value).__name__}")
    return path


_shared: OrderedDict[bytes, Folder] = OrderedDict()
_shared_lock = Lock()


def shared(folder: Folder) -> Folder:
    """The folder of the same options that an earlier transaction of this process used, else this one."""
    with _shared_lock:
        kept = _shared.setdefault(folder.options, folder)
        _shared.move_to_end(folder.options)
        if len(_shared) > _SHARED_MAX:
            _shared.popitem(last=False)
        return kept


def _shared_at(placement: bytes) -> list[Folder]:
    with _shared_lock:
        return [folder for folder in _shared.values() if folder.placement == placement]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.clear)
