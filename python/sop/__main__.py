"""The command line: `python -m sop COMMAND PATH`.

Exit codes: 0 done; 1 the answer is no (verify: damaged, get: no such key); 2 it could not be done (usage, no
database there, an error); 130 interrupted.
"""

from __future__ import annotations

import argparse
import codecs
import dataclasses
import io
import json
import os
import sys
from typing import Any, Callable, Iterator, NoReturn, Sequence, TextIO

from . import (
    Context,
    CorruptionError,
    Database,
    Error,
    StoreNotFoundError,
    TransactionMode,
    ValidationError,
    __version__,
    btree,
)
from .maintenance import DiskUse, Finding, Progress, RedundancyStatus
from .migrate.command import add_import_arguments

DONE, NO, FAILED, INTERRUPTED = 0, 1, 2, 130

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def _size(count: float) -> str:
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f} {_UNITS[unit]}" if unit else f"{int(count)} B"


def _drop(stream: TextIO) -> None:
    """Nobody reads what is printed there: it goes nowhere, also what the interpreter flushes on exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _say(text: str) -> None:
    """Prints a report. The exit code stands, whether or not somebody reads it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _drop(sys.stdout)


def _json(value: Any) -> str:
    """JSON, with escapes where the encoding of the output may lack a character."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return json.dumps(value, ensure_ascii=codecs.lookup(encoding).name != "utf-8")


def _complain(text: str) -> None:
    if sys.stderr is not None:  # else it would be printed as an answer
        print(f"sop: {text}", file=sys.stderr)


def _say_json(value: Any) -> None:
    _say(_json(value))


def _progress(arguments: argparse.Namespace, say: Callable[[float], str] = _size) -> Progress | None:
    """Shows how far a long command is, on stderr: on one line of a terminal, else every ten percent."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if sys.stderr is None or arguments.quiet or not (terminal or arguments.progress):
        return None
    shown = -10

    def tell(text: str, end: str = "\n") -> None:
        try:
            print(text, end=end, file=sys.stderr, flush=True)
        except OSError:
            # Progress that nobody can see is no reason to stop.
            _drop(sys.stderr)

    def show(done: int, total: int) -> None:
        nonlocal shown
        percent = 100 * done // total if total else 0
        text = f"{arguments.command}: {percent} % ({say(done)} of {say(total)})"
        if terminal:
            tell(f"\r\x1b[K{text}", end="\n" if done == total else "")
        elif percent >= shown + 10 or (done == total and percent > shown):
            shown = percent
            tell(text)

    return show


def _verify(ctx: Context, db: Database, arguments: argparse.Namespace) -> int:
    found = db.verify(ctx, _progress(arguments))
    if arguments.json:
        _say_json(dataclasses.asdict(found))
    elif not arguments.quiet:
        for finding in found.findings:
            # What the system refused names its file itself.
            place = f"{finding.file}: offset {finding.offset}: " if finding.file else ""
            _say(f"{place}{finding.what}")
        verdict = "intact" if found.intact else f"{len(found.findings)} findings"
        _say(
            f"{verdict}: {len(found.stores)} stores, {found.entries} entries, {found.pages} pages, "
            f"{found.values} values, {_size(found.bytes)}; log of {found.log.files} files, "
            f"{found.log.transactions} transactions, up to {found.log.sequence}"
            f"{', with a commit at its end that was not finished' if found.log.torn else ''}"
        )
    return DONE if found.intact else NO


def _disk_rows(disk: DiskUse) -> list[tuple[str, Any]]:
    kinds = (("log", disk.log), ("segments", disk.segments), ("manifests", disk.manifests))
    rows: list[tuple[str, Any]] = [("size on disk", _size(disk.bytes))]
    return rows + [(f"  {name}", f"{_size(kind.bytes)} in {kind.files} files") for name, kind in kinds]


def _info(ctx: Context, db: Database, arguments: argparse.Namespace) -> int:
    info = db.info(ctx)
    if arguments.json:
        _say_json(dataclasses.asdict(info))
        return DONE
    _say_table(
        [
            ("folder", info.folder),
            ("format version", info.format_version),
            ("uuid", info.uuid),
            ("stores", info.stores),
            ("sequence", info.sequence),
            ("checkpoint", info.checkpoint),
            *_disk_rows(info.disk),
            ("live", _size(info.live_bytes)),
            ("garbage", f"{100 * info.garbage:.0f} %"),
            ("processes", info.processes),
            ("oldest pin", "none" if info.oldest_pin is None else info.oldest_pin),
        ]
    )
    return DONE


def _say_table(rows: Sequence[Sequence[Any]]) -> None:
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        _say("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())


def _ls(ctx: Context, db: Database, arguments: argparse.Namespace) -> int:
    stores = db.stores(ctx)
    if arguments.json:
        _say_json([dataclasses.asdict(store) for store in stores])
    else:
        rows = [(store.kind, store.items, store.name, _json(store.options)) for store in stores]
        _say_table([("KIND", "ITEMS", "NAME", "OPTIONS"), *rows])
    return DONE


def _no_json(name: str) -> NoReturn:
    raise ValueError(name)


def _key(text: str) -> Any:
    """A key as JSON; what is no JSON, as NaN, is a string."""
    try:
        return json.loads(text, parse_constant=_no_json)
    except ValueError:
        return text
    except RecursionError:
        raise ValidationError("the key is nested too deeply") from None


def _open(ctx: Context, db: Database, arguments: argparse.Namespace) -> btree.Btree[Any, Any]:
    stores = db.stores(ctx)  # raises where there is no database
    transaction = db.begin_transaction(ctx, TransactionMode.ForReading)
    try:
        return btree.Btree.open(ctx, arguments.store, transaction)
    except StoreNotFoundError as error:
        kinds = [store.kind for store in stores if store.name == arguments.store]
        if not kinds:
            raise
        raise ValidationError(f"{error}: it is a {kinds[0]} store") from None


def _get(ctx: Context, db: Database, arguments: argparse.Namespace) -> int:
    item = _open(ctx, db, arguments).find_one(ctx, _key(arguments.key), True)
    if item is None:
        return NO
    _say_json(dataclasses.asdict(item) if arguments.json else item.value)
    return DONE


def _scan(ctx: Context, db: Database, arguments: argparse.Namespace) -> int:
    store = _open(ctx, db, arguments)
    start, stop = (None if text is None else _key(text) for text in (arguments.start, arguments.stop))
    if arguments.stop is not None and stop is None:
        return DONE  # null is the first key there can be
    walk: Callable[..., Iterator[Any]] = store.keys if arguments.keys else store.items
    for number, found in enumerate(walk(ctx, start, stop, arguments.reverse)):
        if number == arguments.limit:
            break
        row = found if arguments.keys else {"key": found.key, "value": found.value}
        print(_json(row))
    return DONE


def _backup(ctx: Context, db: Database, arguments: argparse.Namespace) -> int:
    made = db.backup(ctx, arguments.target, _progress(arguments), verify=arguments.verify)
    if arguments.json:
        _say_json(dataclasses.asdict(made))
    elif not arguments.quiet:
        checked = "verified" if made.verified else "not verified"
        _say(f"{made.files} files, {_size(made.bytes)}, up to transaction {made.sequence}, {checked}")
    return DONE


def _compact(ctx: Context, db: Database, arguments: argparse.Namespace) -> int:
    made = db.compact(ctx, _progress(arguments))
    if arguments.json:
        _say_json(dataclasses.asdict(made))
    elif not arguments.quiet:
        _say(f"{_size(made.before.bytes)} before, {_size(made.after.bytes)} after")
    return DONE


def _status(ctx: Context, db: Database, arguments: argparse.Namespace) -> int:
    return _say_status(db.status(ctx), arguments)


def _say_status(status: RedundancyStatus, arguments: argparse.Namespace) -> int:
    if arguments.json:
        _say_json({**dataclasses.asdict(status), "summary": status.summary})
    elif not getattr(arguments, "quiet", False):
        rows: list[tuple[Any, ...]] = []
        for copy in status.copies:
            rows.append((f"copy {copy.index}", copy.state, copy.role, copy.path or "-"))
        for group in status.sets:
            for drive in group.drives:
                held = f"{_size(drive.bytes)}, {drive.missing} shards missing"
                rows.append((f"drive {drive.index}", drive.state, held, drive.path or "-"))
            name = f"store {group.name!r}" if group.name else "all other stores"
            spare = ", ".join(
                f"{count} can lose {shards}" for shards, count in enumerate(group.spare) if count
            )
            lost = f"; {group.lost} LOST" if group.lost else ""
            coded = f"{group.data}+{group.parity}"
            rows.append((name, coded, f"{group.segments} segments", f"{spare or 'none'}{lost}"))
        if rows:
            _say_table(rows)
        _say(status.summary if rows else "no mirrored folders and no erasure coding")
    return DONE if status.healthy else NO


def _say_findings(findings: Sequence[Finding]) -> None:
    for finding in findings:
        _say(f"{finding.file}: offset {finding.offset}: {finding.what}")


def _scrub(ctx: Context, db: Database, arguments: argparse.Namespace) -> int:
    found = db.scrub(ctx, _progress(arguments))
    if arguments.json:
        _say_json(dataclasses.asdict(found))
    elif not arguments.quiet:
        _say_findings(found.findings)
        verdict = "intact" if found.intact else f"{len(found.findings)} findings"
        _say(f"{verdict}: {found.shards} shards, {_size(found.bytes)}")
    return DONE if found.intact else NO


def _repair(ctx: Context, db: Database, arguments: argparse.Namespace) -> int:
    made = db.repair(ctx, _progress(arguments), missing_only=arguments.missing_only)
    if arguments.json:
        _say_json(dataclasses.asdict(made))
    elif not arguments.quiet:
        _say_findings(made.failed)
        copies = f", copies brought back: {made.copies}" if made.copies else ""
        rate = f", {_size(made.bytes / made.seconds)}/s" if made.bytes and made.seconds else ""
        _say(f"{made.rebuilt} shards rebuilt, {_size(made.bytes)}{rate}{copies}")
    return NO if made.failed else DONE


def _reinstate(ctx: Context, db: Database, arguments: argparse.Namespace) -> int:
    return _say_status(db.reinstate(ctx, lost=arguments.lost, progress=_progress(arguments)), arguments)


def _import(ctx: Context, db: Database, arguments: argparse.Namespace) -> int:
    made = arguments.read(ctx, db, arguments, _progress(arguments, str))
    if arguments.json:
        _say_json(dataclasses.asdict(made))
    elif not arguments.quiet:
        _say_table(
            [("KIND", "ITEMS", "NAME"), *((store.kind, store.items, store.name) for store in made.stores)]
        )
        _say("imported" + (", and compared with the source" if made.verified else ""))
    return DONE


_Command = Callable[[Context, Database, argparse.Namespace], int]


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("a number, 0 or more, is needed")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sop", description="Looks into and after SOP databases.")
    parser.add_argument("--version", action="version", version=f"sop {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: _Command, does: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=does, description=does)
        added.set_defaults(run=run)
        added.add_argument("path", metavar="PATH", help="the folder of the database")
        return common(added)

    def common(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        for name, what in (
            ("--mirror", "another one of its stores_folders; once for each"),
            ("--drive", "a drive of its erasure coding, in any order; once for each"),
        ):
            added.add_argument(name, metavar="FOLDER", action="append", default=[], help=what)
        added.add_argument("--json", action="store_true", help="answer with JSON")
        return added

    def long(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument("--progress", action="store_true", help="show progress, also without a terminal")
        added.add_argument("--quiet", action="store_true", help="show neither progress nor a report")
        return added

    def of_store(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument("store", metavar="STORE", help="the name of a B-tree")
        return added

    long(command("verify", _verify, "check all that is stored, lists all damage, exits with 1"))
    command("info", _info, "size on disk, newest transaction, garbage, processes that have it open")
    command("ls", _ls, "the stores")
    get = of_store(command("get", _get, "the value of a key of a B-tree; exits with 1 when there is none"))
    get.add_argument(
        "key", metavar="KEY", help="JSON; what is no JSON is a string; behind -- it may begin with a dash"
    )
    scan = of_store(command("scan", _scan, "the items of a B-tree, as lines of JSON"))
    scan.add_argument("--start", metavar="KEY", help="first key; --start=KEY when it begins with a dash")
    scan.add_argument("--stop", metavar="KEY", help="key to stop before")
    scan.add_argument("--reverse", action="store_true", help="from the last key to the first")
    scan.add_argument("--limit", type=_number, help="at most so many")
    scan.add_argument("--keys", action="store_true", help="only keys")
    backup = long(command("backup", _backup, "copy the database while others use it"))
    backup.add_argument("target", metavar="TARGET", help="a folder that is missing or empty")
    backup.add_argument("--no-verify", dest="verify", action="store_false", help="do not read the copy back")
    long(command("compact", _compact, "remove garbage while others use the database"))
    command("status", _status, "the copies and drives; exits with 1 when something is missing")
    long(command("scrub", _scrub, "read every shard and copy, lists all damage, exits with 1"))
    repair = long(command("repair", _repair, "rebuild what is missing or damaged while others use it"))
    repair.add_argument("--missing-only", action="store_true", help="do not read the shards that are there")
    reinstate = long(command("reinstate", _reinstate, "bring a folder that was away back up to date"))
    reinstate.add_argument(
        "--lost",
        type=_number,
        action="append",
        default=[],
        metavar="N",
        help="copy N will not come back: what only it holds is given up",
    )
    does = "store what SQLite, Chroma or sop4py 2 hold, all of it or nothing"
    sources = commands.add_parser("import", help=does, description=does)
    sources.set_defaults(run=_import)
    add_import_arguments(sources, lambda added: long(common(added)))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; gives its exit code."""
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    ctx = Context()
    try:
        with Database.as_found(ctx, arguments.path, arguments.mirror, arguments.drive) as db:
            code: int = arguments.run(ctx, db, arguments)
        if sys.stdout is not None:  # it is when the process was started without one
            sys.stdout.flush()
        return code
    except CorruptionError as error:
        hint = (
            ""
            if arguments.command == "verify"
            else f" (python -m sop verify {arguments.path} lists all damage)"
        )
        _complain(f"{error}{hint}")
        return FAILED
    except Error as error:
        _complain(str(error))
        return FAILED
    except BrokenPipeError:
        # Whoever read the rows wants no more.
        _drop(sys.stdout)
        return DONE
    except OSError as error:
        _drop(sys.stdout)
        _complain(f"cannot write the answer: {error}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
