"""scikit-learn estimators as artefacts, through joblib or skops.

Neither is imported before one is saved or loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, BinaryIO, Dict, Sequence

from ..errors import UnsupportedError, ValidationError

FORMATS = ("joblib", "skops")


def is_estimator(model: Any) -> bool:
    """True for what scikit-learn calls an estimator."""
    return not isinstance(model, type) and all(
        callable(getattr(model, name, None)) for name in ("get_params", "fit")
    )


def choose(format: str | None) -> str:
    """The format to save in: the one asked for, else the first that is installed."""
    if format is not None and format not in FORMATS:
        raise ValidationError(f"an estimator is saved as {' or '.join(FORMATS)}, not {format!r}")
    for name in FORMATS if format is None else (format,):
        if importlib.util.find_spec(name) is not None:
            return name
    names = " or ".join(FORMATS if format is None else (format,))
    raise UnsupportedError(f"saving an estimator needs {names}: pip install {names.split()[0]}", code=70)


def dump(estimator: Any, format: str, file: BinaryIO) -> None:
    """Writes an estimator to a file."""
    if format == "joblib":
        importlib.import_module("joblib").dump(estimator, file)
    else:
        file.write(importlib.import_module("skops.io").dumps(estimator))


def load(format: str, file: BinaryIO, trusted: Sequence[str] | None) -> Any:
    """Reads an estimator from a file."""
    if format not in FORMATS:
        raise ValidationError(
            f"the artefact is {format or 'bytes'!r}, not an estimator: read it with artifact()"
        )
    choose(format)
    if format == "joblib":
        return importlib.import_module("joblib").load(file)
    return importlib.import_module("skops.io").loads(file.read(), trusted=list(trusted or ()))


def describe(estimator: Any) -> Dict[str, Any]:
    """Fields of a Model for an estimator: its class and its parameters, as far as JSON carries them."""
    kind = type(estimator)
    parameters = estimator.get_params(deep=False)
    return {
        "algorithm": f"{kind.__module__}.{kind.__qualname__}",
        "hyperparameters": {name: _plain(value) for name, value in parameters.items()},
    }


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return repr(value)
