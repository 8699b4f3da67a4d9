"""COOKBOOK.md: every recipe runs by itself in an empty folder, twice, and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import ROOT, run_script
from snippets import expected_output, python_snippets

RECIPES = python_snippets(ROOT / "COOKBOOK.md")


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_recipe(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if "REDIS_URL" in RECIPES[number]:
        monkeypatch.setenv("REDIS_URL", request.getfixturevalue("redis_server").url)
    script = tmp_path / "recipe.py"
    script.write_text(RECIPES[number], encoding="utf-8")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        output = run_script(script, cwd=tmp_path / folder).splitlines()
        assert output == expected_output(RECIPES[number])


def test_there_is_a_recipe_in_every_section() -> None:
    headings = re.findall(r"^## (\d+)\.", (ROOT / "COOKBOOK.md").read_text(encoding="utf-8"), re.M)
    assert [int(number) for number in headings] == list(range(1, len(RECIPES) + 1))
