"""The pages in libjsondb/docs, and python/README.md: their Python prints what it says, links lead on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, run_script
from snippets import expected_output, python_snippets

PAGES = sorted((ROOT / "libjsondb" / "docs").glob("*.md"))
# That of the package is what PyPI shows.
SNIPPETS = [
    (page, number)
    for page in [*PAGES, ROOT / "python" / "README.md"]
    for number in range(len(python_snippets(page)))
]


@pytest.mark.parametrize(("page", "number"), SNIPPETS, ids=lambda part: getattr(part, "stem", part))
def test_a_snippet_prints_what_it_says(page: Path, number: int, tmp_path: Path) -> None:
    snippet = python_snippets(page)[number]
    script = tmp_path / "snippet.py"
    script.write_text(snippet, encoding="utf-8")
    assert run_script(script, cwd=tmp_path).splitlines() == expected_output(snippet)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_every_page_is_on_the_first_one() -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8") + (ROOT / "ARCHITECTURE.md").read_text(
        encoding="utf-8"
    )
    for page in PAGES:
        assert f"(libjsondb/docs/{page.name})" in first, page.name


def test_what_keeps_a_guarantee_is_there() -> None:
    """Each name under "Kept by" is a campaign, a test, or a file of tests."""
    page = (ROOT / "libjsondb" / "docs" / "guarantees.md").read_text(encoding="utf-8")
    campaigns = subprocess.run([sys.executable, ROOT / "scripts" / "prove"], capture_output=True, text=True)
    known = set(re.findall(r"^(\S+)  ", campaigns.stdout, re.M))
    for folder, pattern in ((ROOT / "tests", "*.py"), (ROOT / "libjsondb", "*.rs")):
        for file in folder.rglob(pattern):
            known.add(file.stem)
            known.update(re.findall(r"\b(?:def|fn) (\w+)", file.read_text(encoding="utf-8")))
    kept = re.findall(r"Kept by ((?:`[\w-]+`,?\s*)+)", page)
    for table in re.findall(r"^\|.*Kept by \|\n((?:\|.*\n)+)", page, re.M):
        kept += [row.split("|")[-2] for row in table.splitlines()]
    names = [name for cell in kept for name in re.findall(r"`([\w-]+)`", cell)]
    assert len(names) > 60
    assert sorted(set(names) - known) == []
