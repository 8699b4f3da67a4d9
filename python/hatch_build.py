"""Builds the native library and puts it beside the package in the wheel."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if sys.platform == "win32":
    LIBRARY_NAME = "jsondb.dll"
elif sys.platform == "darwin":
    LIBRARY_NAME = "libjsondb.dylib"
else:
    LIBRARY_NAME = "libjsondb.so"


class LibraryHook(BuildHookInterface):
    """Takes the library that lies in `sop/` already, else builds it.

    An sdist holds the sources of the library, a clone has them around this folder.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # the package finds the library in the repository's target folder
        root = Path(self.root)
        library = root / "sop" / LIBRARY_NAME
        if not library.is_file():
            library = _built(root if (root / "Cargo.toml").is_file() else root.parent)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"
        build_data["force_include"][str(library)] = f"sop/{LIBRARY_NAME}"


def _built(sources: Path) -> Path:
    if not (sources / "Cargo.toml").is_file():
        raise RuntimeError(f"{sources} does not hold the sources of sop: there is no library to build")
    cargo = shutil.which("cargo")
    if cargo is None:
        raise RuntimeError("cargo was not found: install Rust (https://rustup.rs) to build the library")
    command = [cargo, "build", "--release", "--locked", "--package", "jsondb"]
    environment = {**os.environ}
    if sys.platform == "darwin":
        environment["MACOSX_DEPLOYMENT_TARGET"] = _oldest_macos()
    subprocess.run(command, cwd=sources, env=environment, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or "target")
    library = sources / target / "release" / LIBRARY_NAME
    if not library.is_file():
        raise RuntimeError(f"cargo built no {library}")
    return library


def _platform() -> str:
    """Where the library runs, as wheels name it."""
    name = sysconfig.get_platform()
    if sys.platform == "darwin":
        # Python may be built for two processors and an older system; the library is built for this one.
        name = f"macosx-{_oldest_macos()}-{platform.machine()}"
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _oldest_macos() -> str:
    return os.environ.get("MACOSX_DEPLOYMENT_TARGET") or "11.0"
