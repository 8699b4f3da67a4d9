"""JSON text for the library: keys, values, options.

Dataclasses become objects of their fields, at any depth. What JSON cannot carry raises a ValidationError that
says what it is.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Iterable, Mapping

from .errors import ValidationError


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass instance, their values as they are."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _plain(value: Any) -> Any:
    """What stands in JSON for a value that json does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return fields_of(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()  # scalars and arrays
    raise ValidationError(f"a value of type {type(value).__name__} cannot be stored: JSON has no such type")


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"), ensure_ascii=False, default=_plain)


def encode(value: Any, what: str = "the value") -> bytes:
    """JSON text of a value. `what` names it in errors."""
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValidationError(f"{what} contains a lone surrogate, which is not text: {error}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise ValidationError(f"{what} cannot be written as JSON: {error}") from error


def text(value: Any, what: str) -> str:
    """A name or an id, which is a str."""
    if not isinstance(value, str):
        raise ValidationError(f"{what} must be a str, not {type(value).__name__}")
    return value


def as_list(values: Any, what: str) -> list[Any]:
    """The elements of a list, an array, or any other iterable but a text or a dict."""
    if isinstance(values, list):
        return values
    if hasattr(values, "tolist"):  # an array, of NumPy or not: its numbers become Python's
        values = values.tolist()
    if isinstance(values, Iterable) and not isinstance(values, (str, bytes, Mapping)):
        return list(values)
    raise ValidationError(f"{what} must be a list, not {type(values).__name__}")


def encode_text(value: Any, what: str) -> bytes:
    """UTF-8 of a name or an id."""
    try:
        return text(value, what).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValidationError(f"{what} contains a lone surrogate, which is not text: {error}") from error
