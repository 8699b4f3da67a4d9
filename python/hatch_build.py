"""Builds the native library and puts it beside the package in the wheel."""

from __future__ import annotations

import os
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
    """Takes the library that lies in `sop/` already, else builds it in the repository around this folder."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # the package finds the library in the repository's target folder
        library = Path(self.root, "sop", LIBRARY_NAME)
        if not library.is_file():
            library = _built(Path(self.root).parent)
        platform = re.sub(r"[^a-zA-Z0-9_]", "_", sysconfig.get_platform())
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(library)] = f"sop/{LIBRARY_NAME}"


def _built(repository: Path) -> Path:
    if not (repository / "Cargo.toml").is_file():
        raise RuntimeError(f"{repository} is not the repository of sop: there is no library to build")
    cargo = shutil.which("cargo")
    if cargo is None:
        raise RuntimeError("cargo was not found: install Rust (https://rustup.rs) to build the library")
    subprocess.run([cargo, "build", "--release", "--package", "jsondb"], cwd=repository, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or "target")
    library = repository / target / "release" / LIBRARY_NAME
    if not library.is_file():
        raise RuntimeError(f"cargo built no {library}")
    return library
