"""The native library: where it is looked for, what loading it does, and the signatures of the header."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys

import pytest

import sop
from conftest import PACKAGE, ROOT, environment
from sop import _library

HEADER = (ROOT / "include" / "libjsondb.h").read_text()

C_TYPES = {
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "double": ctypes.c_double,
    "long long": ctypes.c_longlong,
    "const char *": ctypes.c_char_p,
    "const float *": ctypes.c_void_p,
    "const void *": ctypes.c_void_p,
    "void *": ctypes.c_void_p,
    "SopProgress": _library.PROGRESS,
    "float *": ctypes.c_void_p,
    "char *": ctypes.c_void_p,
    "char **": ctypes.POINTER(ctypes.c_void_p),
    "int32_t *": ctypes.POINTER(ctypes.c_int32),
    "int64_t *": ctypes.POINTER(ctypes.c_int64),
    "uint64_t *": ctypes.POINTER(ctypes.c_uint64),
    "size_t *": ctypes.POINTER(ctypes.c_size_t),
    "uint32_t *": ctypes.POINTER(ctypes.c_uint32),
    "const uint32_t *": ctypes.POINTER(ctypes.c_uint32),
    "void": None,
}


def prototypes() -> dict[str, tuple[object, list[object]]]:
    """Result and argument types of each function of the header."""
    found = {}
    code = re.sub(r"//[^\n]*|/\*.*?\*/", "", HEADER, flags=re.S)
    for result, name, arguments in re.findall(r"^([\w ]+[ *]+)(\w+)\(([^)]*)\);", code, flags=re.M):
        types = [
            re.match(r"(.*?)\w*$", one.strip()).group(1).strip() or one.strip()
            for one in arguments.split(",")
        ]
        found[name] = (result.strip(), [] if types == ["void"] else types)
    return found


def test_signatures_are_those_of_the_header() -> None:
    in_header = prototypes()
    for name, arguments in _library._CHECKED.items():
        result, types = in_header[name]
        assert result == "int32_t", name
        assert [C_TYPES[one] for one in types] == list(arguments), name
    for name, (result, arguments) in _library._UNCHECKED.items():
        returned, types = in_header[name]
        assert result in (
            C_TYPES[returned],
            ctypes.c_char_p if returned == "const char *" else C_TYPES[returned],
        )
        assert [C_TYPES[one] for one in types] == list(arguments), name


def test_every_new_function_is_declared() -> None:
    ours = {*_library._CHECKED, *_library._UNCHECKED}
    assert {name for name in prototypes() if name.startswith("sop_")} - ours == set()


def test_the_version_of_library_and_package_is_the_same() -> None:
    assert _library.native.sop_version().decode() == sop.__version__


def run(code: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(), **extra},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_importing_prints_nothing_starts_no_thread_and_needs_no_numpy() -> None:
    code = (
        "import os, sys, sop, sop.ai, sop.redis\n"
        "assert 'numpy' not in sys.modules\n"
        "tasks = '/proc/self/task'\n"
        "assert not os.path.isdir(tasks) or len(os.listdir(tasks)) == 1\n"
    )
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_library_says_how_to_build_it() -> None:
    done = run("import sop", SOP_LIBRARY="/nowhere/libjsondb.so")
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert "/nowhere/libjsondb.so" in done.stderr
    assert "cargo build --release" in done.stderr


def test_a_file_that_is_no_library_is_an_import_error(tmp_path) -> None:
    broken = tmp_path / "libjsondb.so"
    broken.write_text("not a library")
    done = run("import sop", SOP_LIBRARY=str(broken))
    assert "ImportError" in done.stderr
    assert str(broken) in done.stderr


def test_a_library_of_another_version_is_an_import_error() -> None:
    code = "import sop._library as l; l.VERSION = '2.9.9'; l._load()"
    done = run(code)
    assert "ImportError" in done.stderr and "cargo build --release" in done.stderr
    assert "2.9.9" in done.stderr and sop.__version__ in done.stderr


def test_a_library_with_other_functions_is_an_import_error() -> None:
    """It was built from an earlier state of the same version."""
    code = (
        "import collections, sop._native as n\n"
        "n.Functions = collections.namedtuple('Functions', 'one two')\n"
        "n.bind(object, '')\n"
    )
    done = run(code, SOP_PURE="")
    assert "ImportError" in done.stderr and "cargo build --release" in done.stderr
    assert "functions for 2" in done.stderr and f"version is {sop.__version__}" in done.stderr


def test_a_library_that_refuses_the_fast_path_is_used_without() -> None:
    """It knows neither this build of Python nor what the package hands over: NULL once crashed ctypes."""
    code = (
        "import sop._native as n\n"
        "n._FIELDS = n._FIELDS[:2]\n"  # one object is missing
        "assert n.fast is not None and n.bind(object, '') is None and n.fast is None\n"
    )
    done = run(code, SOP_PURE="")
    assert (done.returncode, done.stderr) == (0, "")


def test_sop_library_comes_first(tmp_path) -> None:
    copy = tmp_path / "renamed.so"
    copy.write_bytes(open(_library.native._name, "rb").read())
    code = "import sop._library as library; print(library.native._name)"
    assert run(code, SOP_LIBRARY=str(copy)).stdout.strip() == str(copy)


@pytest.mark.parametrize(
    "code",
    [
        "from sop.btree import Btree, BtreeOptions, Item, PagingInfo, PagingDirection, CacheConfig",
        "from sop.btree import IndexSpecification, IndexFieldSpecification, ValueDataSize, BtreeError",
        "from sop.ai import VectorDatabase, Database, VectorStore, Item, Hit, UsageMode, DBType",
        "from sop.ai import ModelStore, Model, SOPVectorStore",
        "from sop.ai.vector import VectorStore, Item; from sop.ai.model import ModelStore, Model",
        "from sop import btree, ai, Context, Transaction, TransactionOptions, TransactionMode",
        "from sop.transaction import Transaction, TransactionOptions, TransactionMode, DBType",
        "from sop.transaction import TransactionError, InvalidTransactionStateError, ErasureCodingConfig",
        "from sop.database import Database",
        "from sop.redis import Redis, RedisOptions",
        "from sop.context import Context",
        "import sop; sop.ai.VectorDatabase; sop.btree.Btree; sop.transaction.Transaction",
    ],
)
def test_module_paths_of_2_0_17(code: str) -> None:
    done = run(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_carries_its_types() -> None:
    assert (PACKAGE / "sop" / "py.typed").is_file()
    assert os.listdir(PACKAGE / "sop")
