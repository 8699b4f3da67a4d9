"""The code blocks of a Markdown page."""

from __future__ import annotations

import re
from pathlib import Path

FENCE = re.compile(r"^```python\n(.*?)^```$", re.S | re.M)


def python_snippets(page: Path) -> list[str]:
    """The Python blocks of a page, in order."""
    return FENCE.findall(page.read_text(encoding="utf-8"))


def expected_output(snippet: str) -> list[str]:
    """What its lines are said to print: `# -> text`, or `# -> one | two` for a line that prints twice."""
    said = re.findall(r"# -> (.*)$", snippet, re.M)
    return [line for text in said for line in text.split(" | ")]
