"""Looking after a database: what `Database.verify`, `info`, `stores`, `backup` and `compact` answer, and, of
one with mirrored folders or erasure coding, `status`, `scrub`, `repair` and `reinstate`.

All of it can be turned into JSON with `dataclasses.asdict`; the command line, `python -m sop`, does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ._display import Report
from ._folder import Folder
from ._json import encode, encode_text
from ._library import call_json, native
from ._log import logger
from ._progress import Progress, run
from .context import Context, context_id
from .errors import ValidationError

__all__ = [
    "Backup",
    "Compaction",
    "CopyState",
    "DatabaseInfo",
    "DiskUse",
    "DriveState",
    "Files",
    "Finding",
    "LogReport",
    "Progress",
    "RedundancyStatus",
    "Repair",
    "Scrub",
    "SetState",
    "StoreInfo",
    "Verification",
    "VerifiedStore",
]


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
class Verification(Report):
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
class DatabaseInfo(Report):
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
class Backup(Report):
    """What a backup holds: the number of its newest transaction, and its size."""

    sequence: int
    files: int
    bytes: int
    verified: bool


@dataclass
class Compaction(Report):
    """Size before and after, and the checkpoints made."""

    before: DiskUse
    after: DiskUse
    checkpoints: int


@dataclass
class CopyState:
    """A folder that holds the log and the manifests.

    `role` is "stores_folders[0]" and so on, or "drive 2 of STORE"; `state` is "current", "stale" (others
    went on without it), "missing" or "unreadable". `sequence` is the newest transaction in it, where that is
    known.
    """

    index: int
    role: str
    path: Optional[str]
    state: str
    sequence: Optional[int]


@dataclass
class DriveState:
    """A drive of a set.

    `state` is "ok", "behind" (some shards are missing), "replaced" (all are), "missing" or "unreadable".
    """

    index: int
    path: Optional[str]
    state: str
    missing: int
    bytes: int


@dataclass
class SetState:
    """Drives that share the data of a store ("": of all that have no settings of their own)."""

    name: str
    data: int
    parity: int
    segments: int
    # Segments by the number of shards that may still be lost: at_risk[0] can lose none, at_risk[parity] all.
    spare: List[int]
    # Segments of which too few shards are left.
    lost: int
    drives: List[DriveState]


@dataclass
class RedundancyStatus(Report):
    """What of a database is there how often. Names are looked at, not contents: see `Database.scrub`."""

    healthy: bool
    copies: List[CopyState]
    sets: List[SetState]

    @property
    def summary(self) -> str:
        """One line: "healthy", or what is missing."""
        if self.healthy:
            return "healthy"
        troubles = [f"copy {copy.index} ({copy.role}) is {copy.state}" for copy in self.copies]
        told = [trouble for trouble, copy in zip(troubles, self.copies) if copy.state != "current"]
        for group in self.sets:
            name = f" of {group.name!r}" if group.name else ""
            for drive in group.drives:
                if drive.state != "ok":
                    lacks = f" ({drive.missing} shards)" if drive.missing else ""
                    told.append(f"drive {drive.index}{name} is {drive.state}{lacks}")
            if group.lost:
                told.append(f"{group.lost} segments{name} have too few shards")
        return "; ".join(told)


@dataclass
class Scrub(Report):
    """What a scrub read and what it found damaged or missing; `file` of a finding is absolute."""

    intact: bool
    findings: List[Finding]
    shards: int
    bytes: int


@dataclass
class Repair(Report):
    """Shards that were rebuilt, their bytes, copies that were brought back, and what was not repaired."""

    rebuilt: int
    bytes: int
    # That rebuilding shards took.
    seconds: float
    copies: List[int]
    failed: List[Finding]


def verify(folder: Folder, ctx: Context | None, progress: Progress | None) -> Verification:
    """See `Database.verify`."""
    found = run(call_json, native.sop_database_verify, progress, *_of(folder, ctx))
    findings = _findings(found.pop("findings"))
    stores = [VerifiedStore(**store) for store in found.pop("stores")]
    _log_damage("a verification", folder, findings)
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
    made = Backup(**run(call_json, native.sop_database_backup, progress, *_of(folder, ctx), *arguments))
    logger.info("backed up %s: %d bytes in %d files", folder.path, made.bytes, made.files)
    return made


def compact(folder: Folder, ctx: Context | None, progress: Progress | None) -> Compaction:
    """See `Database.compact`."""
    made = run(call_json, native.sop_database_compact, progress, *_of(folder, ctx))
    before, after = _disk_use(made["before"]), _disk_use(made["after"])
    logger.info("compacted %s from %d to %d bytes", folder.path, before.bytes, after.bytes)
    return Compaction(before, after, made["checkpoints"])


def status(folder: Folder, ctx: Context | None) -> RedundancyStatus:
    """See `Database.status`."""
    return _status(call_json(native.sop_database_status, *_of(folder, ctx)))


def scrub(folder: Folder, ctx: Context | None, progress: Progress | None) -> Scrub:
    """See `Database.scrub`."""
    found = run(call_json, native.sop_database_scrub, progress, *_of(folder, ctx))
    findings = _findings(found.pop("findings"))
    _log_damage("a scrub", folder, findings)
    return Scrub(findings=findings, **found)


def repair(folder: Folder, ctx: Context | None, progress: Progress | None, missing_only: bool) -> Repair:
    """See `Database.repair`."""
    if not isinstance(missing_only, bool):
        raise ValidationError(f"missing_only must be True or False, not {type(missing_only).__name__}")
    arguments = (*_of(folder, ctx), int(missing_only))
    made = run(call_json, native.sop_database_repair, progress, *arguments)
    failed = _findings(made.pop("failed"))
    rebuilt = (made["rebuilt"], made["bytes"], len(made["copies"]))
    logger.info("repaired %s: rebuilt %d shards of %d bytes and %d copies", folder.path, *rebuilt)
    _log_damage("a repair", folder, failed)
    return Repair(failed=failed, **made)


def reinstate(
    folder: Folder, ctx: Context | None, lost: Sequence[int], progress: Progress | None
) -> RedundancyStatus:
    """See `Database.reinstate`."""
    given = encode({"lost": list(lost)}, "the lost copies")
    arguments = (given, len(given))
    status = _status(run(call_json, native.sop_database_reinstate, progress, *_of(folder, ctx), *arguments))
    logger.info("reinstated the copies of %s: %s", folder.path, status.summary)
    return status


def _status(found: Dict[str, Any]) -> RedundancyStatus:
    copies = [CopyState(**copy) for copy in found["copies"]]
    sets = []
    for group in found["sets"]:
        drives = [DriveState(**drive) for drive in group.pop("drives")]
        sets.append(SetState(drives=drives, **group))
    return RedundancyStatus(found["healthy"], copies, sets)


def _findings(found: List[Dict[str, Any]]) -> List[Finding]:
    return [Finding(**finding) for finding in found]


def _log_damage(who: str, folder: Folder, left: Sequence[Finding]) -> None:
    if left:
        first = left[0]
        where = f"{first.file} at {first.offset}: {first.what}"
        logger.warning("%s of %s left %d findings, first %s", who, folder.path, len(left), where)


def _of(folder: Folder, ctx: Context | None) -> tuple[int, int]:
    context = context_id(ctx)
    return context, folder.open(context).value


def _disk_use(fields: Mapping[str, Any]) -> DiskUse:
    kinds = {name: Files(**fields[name]) for name in ("log", "segments", "manifests")}
    return DiskUse(bytes=fields["bytes"], **kinds)
