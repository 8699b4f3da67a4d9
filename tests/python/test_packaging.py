"""What a release is made of: one version, one licence, workflows that run nothing that can change."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import sop
from conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_version_of_the_package_is_cargos() -> None:
    """`scripts/version` writes both; the library's is compiled in from Cargo.toml."""
    manifest = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "(.*)"$', manifest, re.M)
    assert found is not None and found[1] == sop.__version__
    assert 'dynamic = ["version"]' in (ROOT / "python/pyproject.toml").read_text(encoding="utf-8")


def test_the_package_has_the_licence() -> None:
    """A file of its own: what a link leads to is not in an sdist."""
    licence = ROOT / "python" / "LICENSE"
    assert not licence.is_symlink()
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_there_are_workflows() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "wheels"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_what_cannot_change_unseen(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        assert "latest" not in str(job["runs-on"])
        if "container" in job:
            assert re.search(r":\d{4}\.\d{2}\.\d{2}-\d+$", job["container"])
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"])
            for script in re.findall(r"(?:scripts/|\.ci/)\w+", step.get("run", "")):
                assert (ROOT / script).is_file()
