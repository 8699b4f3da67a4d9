"""`python -m sop import sqlite | chroma | sop4py SOURCE PATH`."""

from __future__ import annotations

import argparse
from typing import Any, Callable, Optional

from .._progress import Progress
from ..context import Context
from ..database import Database
from . import Imported, from_chroma, from_sop4py, from_sqlite

Import = Callable[[Context, Database, argparse.Namespace, Optional[Progress]], Imported]


def add_import_arguments(
    parser: argparse.ArgumentParser, finish: Callable[[argparse.ArgumentParser], Any]
) -> None:
    """Adds the sources to the parser of the command, each with its options; `finish` adds those of all."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    def kind(name: str, run: Import, source: str, does: str) -> argparse.ArgumentParser:
        added = kinds.add_parser(name, help=does, description=does)
        added.set_defaults(read=run)
        added.add_argument("source", metavar="SOURCE", help=source)
        added.add_argument(
            "path", metavar="PATH", help="the folder of the database; made where there is none"
        )
        added.add_argument("--only", metavar="NAME", action="append", help="import this one; once for each")
        added.add_argument("--verify", action="store_true", help="read all rows again and compare")
        finish(added)
        return added

    sqlite = kind("sqlite", _sqlite, "a SQLite file", "tables of SQLite, as B-trees")
    sqlite.add_argument("--blobs", choices=["base64"], help='a BLOB becomes {"$base64": "..."}')
    chroma = kind("chroma", _chroma, "a folder of Chroma", "collections of Chroma, as vector stores")
    chroma.add_argument(
        "--text-key", default="text", metavar="FIELD", help="field of the payload for documents; text"
    )
    sop4py = kind("sop4py", _sop4py, "a folder of sop4py 2", "stores of sop4py 2")
    sop4py.add_argument(
        "--python", required=True, metavar="PYTHON", help="the Python of an environment that has sop4py 2"
    )


def _common(ctx: Context, arguments: argparse.Namespace, progress: Optional[Progress]) -> dict[str, Any]:
    return {"ctx": ctx, "only": arguments.only, "verify": arguments.verify, "progress": progress}


def _sqlite(
    ctx: Context, db: Database, arguments: argparse.Namespace, progress: Optional[Progress]
) -> Imported:
    common = _common(ctx, arguments, progress)
    return from_sqlite(db, arguments.source, blobs=arguments.blobs, **common)


def _chroma(
    ctx: Context, db: Database, arguments: argparse.Namespace, progress: Optional[Progress]
) -> Imported:
    common = _common(ctx, arguments, progress)
    return from_chroma(db, arguments.source, text_key=arguments.text_key, **common)


def _sop4py(
    ctx: Context, db: Database, arguments: argparse.Namespace, progress: Optional[Progress]
) -> Imported:
    return from_sop4py(db, arguments.source, arguments.python, **_common(ctx, arguments, progress))
