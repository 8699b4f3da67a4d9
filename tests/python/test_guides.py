"""The pages in libjsondb/docs: their Python runs as COOKBOOK.md's does, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import ROOT, run_script
from snippets import expected_output, python_snippets

PAGES = sorted((ROOT / "libjsondb" / "docs").glob("*.md"))
SNIPPETS = [(page, number) for page in PAGES for number in range(len(python_snippets(page)))]


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
