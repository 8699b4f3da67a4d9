"""Looking after a database: what `Database.verify`, `info`, `stores`, `backup` and `compact` answer.

All of it can be turned into JSON with `dataclasses.asdict`; the command line, `python -m sop`, does.
"""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional

from ._folder import Folder
from ._json import encode_text
from ._library import PROGRESS_TO_CELL, ProgressCell, call_json, native
from .context import Context, context_id
from .errors import ValidationError

__all__ = [
    "Backup",
    "Compaction",
    "DatabaseInfo",
    "DiskUse",
    "Files",
    "Finding",
    "LogReport",
    "Progress",
    "StoreInfo",
    "Verification",
    "VerifiedStore",
]

# Called with the bytes done and the bytes to do in all, an estimate that may grow.
Progress = Callable[[int, int], Any]

# Seconds between two calls of it.
_INTERVAL = 0.1


@dataclass
class Finding:
    """Damage: the file, inside the folder of the database, the offset in it, and what is wrong."""

    file: str
    offset: int
    what: str


@dataclass
class VerifiedStore:
    """A store whose items were counted. `kind` is "btree", "vector" or "model"."""

    name: str
    kind: str
    items: int


@dataclass
class LogReport:
    """The log: its files, the group commits (frames) and transactions in them, and where it ends."""

    files: int
    frames: int
    transactions: int
    sequence: int
    end: int
    # A commit that was begun and not stored stands at the end, which is no damage.
    torn: bool


@dataclass
class Verification:
    """What a verification found. `stores` is empty when damage keeps them from being counted."""

    intact: bool
    findings: List[Finding]
    stores: List[VerifiedStore]
    entries: int
    pages: int
    values: int
    bytes: int
    log: LogReport


@dataclass
class Files:
    """Files of one kind."""

    files: int
    bytes: int


@dataclass
class DiskUse:
    """Size on disk: the log, segments of pages and values, manifests that list those."""

    bytes: int
    log: Files
    segments: Files
    manifests: Files


@dataclass
class DatabaseInfo:
    """A database as it is now."""

    folder: str
    format_version: int
    uuid: str
    stores: int
    # Number of the newest transaction, and of the newest one that the last checkpoint took in.
    sequence: int
    checkpoint: int
    disk: DiskUse
    # Of the segments of the last checkpoint: bytes in use, and the share that is not, from 0 to 1.
    live_bytes: int
    garbage: float
    # Processes that can write to it and have it open, with this one.
    processes: int
    # Oldest checkpoint that an open transaction of any of them reads, if one is open.
    oldest_pin: Optional[int]


@dataclass
class StoreInfo:
    """A store as it is now. `kind` is "btree", "vector" or "model"."""

    name: str
    kind: str
    items: int
    options: Dict[str, Any]


@dataclass
class Backup:
    """What a backup holds: the number of its newest transaction, and its size."""

    sequence: int
    files: int
    bytes: int
    verified: bool


@dataclass
class Compaction:
    """Size before and after, and the checkpoints made."""

    before: DiskUse
    after: DiskUse
    checkpoints: int


def verify(folder: Folder, ctx: Context | None, progress: Progress | None) -> Verification:
    """See `Database.verify`."""
    found = run(call_json, native.sop_database_verify, progress, *_of(folder, ctx))
    findings = [Finding(**finding) for finding in found.pop("findings")]
    stores = [VerifiedStore(**store) for store in found.pop("stores")]
    return Verification(findings=findings, stores=stores, log=LogReport(**found.pop("log")), **found)


def info(folder: Folder, ctx: Context | None) -> DatabaseInfo:
    """See `Database.info`."""
    found = call_json(native.sop_database_info, *_of(folder, ctx))
    return DatabaseInfo(disk=_disk_use(found.pop("disk")), **found)


def stores(folder: Folder, ctx: Context | None) -> List[StoreInfo]:
    """See `Database.stores`."""
    return [StoreInfo(**store) for store in call_json(native.sop_database_stores, *_of(folder, ctx))]


def backup(
    folder: Folder,
    ctx: Context | None,
    target: str | os.PathLike[str],
    progress: Progress | None,
    verify: bool,
) -> Backup:
    """See `Database.backup`."""
    if not isinstance(verify, bool):
        raise ValidationError(f"verify must be True or False, not {type(verify).__name__}")
    path = encode_text(os.fspath(target) if isinstance(target, os.PathLike) else target, "the target")
    arguments = (path, len(path), int(verify))
    return Backup(**run(call_json, native.sop_database_backup, progress, *_of(folder, ctx), *arguments))


def compact(folder: Folder, ctx: Context | None, progress: Progress | None) -> Compaction:
    """See `Database.compact`."""
    made = run(call_json, native.sop_database_compact, progress, *_of(folder, ctx))
    before, after = _disk_use(made["before"]), _disk_use(made["after"])
    return Compaction(before, after, made["checkpoints"])


def _of(folder: Folder, ctx: Context | None) -> tuple[int, int]:
    context = context_id(ctx)
    return context, folder.open(context).value


def _disk_use(fields: Mapping[str, Any]) -> DiskUse:
    kinds = {name: Files(**fields[name]) for name in ("log", "segments", "manifests")}
    return DiskUse(bytes=fields["bytes"], **kinds)


def run(ask: Callable[..., Any], function: Any, progress: Progress | None, *arguments: Any) -> Any:
    """Runs a long call on a thread of its own: Ctrl-C comes through here, and stops it.

    `ask` calls the function, with `arguments` and what it tells how far it is.
    """
    if progress is not None and not callable(progress):
        raise ValidationError(f"progress must be callable, not {type(progress).__name__}")
    call = _LongCall(ask, function, arguments)
    try:
        call.start()
        told = (0, 0)
        while not call.ended.wait(_INTERVAL):
            told = call.tell(progress, told)
        call.tell(progress, told)
    except BaseException:
        call.stop()
        raise
    if call.error is not None:
        raise call.error
    return call.answer


class _LongCall(threading.Thread):
    def __init__(self, ask: Callable[..., Any], function: Any, arguments: tuple[Any, ...]) -> None:
        super().__init__(name="sop-call", daemon=True)
        self.ask = ask
        self.function = function
        self.arguments = arguments
        # Written by the library itself: it never waits for the GIL, which a daemon thread does not outlive.
        self.cell = ProgressCell()
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.answer: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        self.begun.set()
        try:
            if self.cell.stop:
                return  # before it began; nobody waits for it
            self.answer = self.ask(self.function, *self.arguments, PROGRESS_TO_CELL, ctypes.byref(self.cell))
        except BaseException as error:
            self.error = error
        finally:
            self.ended.set()

    def stop(self) -> None:
        """Ends the call and waits for that. Ctrl-C may have come while the thread was being started."""
        self.cell.stop = 1
        if self.begun.wait(_INTERVAL):
            self.ended.wait()

    def tell(self, progress: Progress | None, told: tuple[int, int]) -> tuple[int, int]:
        """Passes on the newest figures, if they are new."""
        figures = (self.cell.done, self.cell.total)
        if progress is not None and figures != told:
            progress(*figures)
        return figures
