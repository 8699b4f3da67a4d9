"""README.md: its snippets are the seed page's to the letter, and run as they stand, twice."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest

from conftest import ROOT, run_script
from redis_server import RedisServer
from snippets import python_snippets

README = ROOT / "README.md"

# SHA-256 of the seed page's snippets, in its order. They are the contract with its readers: a snippet that
# has to be changed to run is a defect of the package.
SEED = {
    "setup": "2ad033d2bd0bf5f0bf3bdbd7215ca097541f8992fba8c1342d9f083f8bb15197",
    "key value": "a8de55b233d2d2fbc775c183922b5418144f2e455cb97e73122d0784df38ad2a",
    "vector": "619439496c3380271c46cb384da32e99c4b74e78ad1521a729b603ad97ddfe7e",
    "explicit centroid": "28a1cc7e767a45c78e17285f3528b44d365ed1566ce4e94d93f44d73d7640377",
    "model": "1a7902853fa5e22c93404009e721008b248dbc191577a4e1e4523d8fe97a7a0f",
    "local": "07c879b8b0ed1a315fed1871bd11773f5a0aa7090a508695419d60f61a4b69fd",
    "production": "8a23cede0544b860abf2fd2bc0d968deecf5a4a5fac313610d1c84bf6f115860",
}
SNIPPETS = dict(zip(SEED, python_snippets(README)))

FOUND = "Found: Alice"
MATCH = "Match: prod_101, Score: 0.99"
LOADED = "Loaded Model: churn_v1"


@pytest.fixture(autouse=True)
def no_data() -> None:
    """The page's own folders, as on a machine that has not run it."""
    for folder in ("/tmp/sop_data", "/tmp/sop_vectors"):
        shutil.rmtree(folder, ignore_errors=True)


def run(tmp_path: Path, *names: str, then: str = "") -> list[str]:
    script = tmp_path / "page.py"
    script.write_text("\n".join([*(SNIPPETS[name] for name in names), then]), encoding="utf-8")
    return run_script(script, cwd=tmp_path).splitlines()


def test_the_snippets_are_those_of_the_seed_page() -> None:
    found = [hashlib.sha256(snippet.encode()).hexdigest() for snippet in python_snippets(README)]
    assert found == list(SEED.values())


def test_the_whole_page_runs_in_order(tmp_path: Path) -> None:
    for _ in range(2):
        found, match, loaded = run(tmp_path, *SEED)
        assert (found, loaded) == (FOUND, LOADED)
        assert match.startswith(MATCH)
    assert not os.path.exists("/mnt/prod_vectors")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("setup", "key value"), FOUND),
        (("vector",), MATCH),
        (("vector", "explicit centroid"), MATCH),
        (("model",), LOADED),
    ],
)
def test_each_section_runs_alone(tmp_path: Path, names: tuple[str, ...], expected: str) -> None:
    (line,) = run(tmp_path, *names)
    assert line.startswith(expected)


def test_the_explicit_centroid_is_kept(tmp_path: Path) -> None:
    then = "vector_store.optimize(ctx)\nprint(vector_store.get(ctx, 'prod_102').centroid_id)\n"
    assert run(tmp_path, "vector", "explicit centroid", then=then)[-1] == "500"


def test_the_production_snippet_serves_what_was_built_locally(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    local = (
        SNIPPETS["local"] + "vdb.open(ctx, 'products').upsert(ctx, Item('p', [1.0], {}))\nvdb.close(ctx)\n"
    )
    production = SNIPPETS["production"].replace("/mnt/prod_vectors", "./local_vectors")
    script = tmp_path / "phases.py"
    connect = f"Redis.open_connection({redis_server.url!r})"
    lines = ["from sop import *", "from sop.ai import *", connect, local, production]
    script.write_text("\n".join([*lines, "print(vdb.open(ctx, 'products').count(ctx))"]), encoding="utf-8")
    assert run_script(script, cwd=tmp_path).splitlines()[-1] == "1"


@pytest.mark.parametrize("page", ["README.md", "COOKBOOK.md", "CONTRIBUTING.md", "ARCHITECTURE.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("http"):
            assert (ROOT / target.split("#")[0]).exists(), target
