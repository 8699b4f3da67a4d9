"""The code blocks of a Markdown page."""

from __future__ import annotations

import re
from pathlib import Path

FENCE = re.compile(r"^```python\n(.*?)^```$", re.S | re.M)


def python_snippets(page: Path) -> list[str]:
    """The Python blocks of a page, in order."""
    return FENCE.findall(page.read_text(encoding="utf-8"))
