"""How objects show themselves: one line for `repr`, a table in a notebook."""

from __future__ import annotations

import dataclasses
from html import escape
from typing import Any, Iterable, Sequence

# Rows of a table of items, and characters of a cell.
ROWS_MAX = 10
_CELL_MAX = 200
# Numbers of a vector that are shown.
_NUMBERS_MAX = 8


def shortened(vector: Any) -> str:
    """The first numbers of a vector, and how many there are."""
    if not isinstance(vector, list) or len(vector) <= _NUMBERS_MAX:
        return repr(vector)
    first = ", ".join(repr(number) for number in vector[:_NUMBERS_MAX])
    return f"[{first}, ... {len(vector)} numbers]"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """An HTML table. Whatever it shows is text there, never markup."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f"<table><caption>{escape(title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return escape(text if len(text) <= _CELL_MAX else text[: _CELL_MAX - 3] + "...")


class Report:
    """Mixed into a dataclass that is an answer: in a notebook it is a table of its fields."""

    def _repr_html_(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        rows = [(field.name, getattr(self, field.name)) for field in fields]
        return table(type(self).__name__, ("", ""), rows)
