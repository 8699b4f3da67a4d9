"""How far a long call is: what its `progress` is told, and how the call is stopped."""

from __future__ import annotations

import ctypes
import threading
from operator import length_hint
from typing import Any, Callable, Iterable, Iterator, Optional, TypeVar

from ._library import PROGRESS_TO_CELL, ProgressCell
from .errors import ValidationError

# Called with what is done and what there is to do in all, an estimate that may grow. What it raises stops the
# call.
Progress = Callable[[int, int], Any]

_T = TypeVar("_T")

# Elements between two calls of it.
STEP = 1000
# Seconds between two calls of it, where the library counts.
_INTERVAL = 0.1


def check(progress: Optional[Progress]) -> None:
    """Raises ValidationError for what is no progress function, nor None."""
    if progress is not None and not callable(progress):
        raise ValidationError(f"progress must be callable, not {type(progress).__name__}")


def steps(total: int, progress: Optional[Progress], size: int = STEP) -> Iterator[slice]:
    """The parts to do so many elements in; `progress` is told when one is done. All at once without it."""
    check(progress)
    if progress is None or total == 0:
        yield slice(0, total)
        return
    for start in range(0, total, size):
        stop = min(start + size, total)
        yield slice(start, stop)
        progress(stop, total)


def counted(
    elements: Iterable[_T], progress: Optional[Progress], total: Optional[int] = None
) -> Iterable[_T]:
    """Elements that are taken as they come, and `progress` told how many were.

    Where nobody knows how many there will be, the total is what was taken so far.
    """
    check(progress)
    if progress is None:
        return elements
    return _counting(elements, progress, length_hint(elements) if total is None else total)


def _counting(elements: Iterable[_T], progress: Progress, total: int) -> Iterator[_T]:
    done = 0
    for element in elements:
        yield element
        done += 1
        if done % STEP == 0:
            progress(done, max(done, total))
    if done % STEP:
        progress(done, max(done, total))


def run(ask: Callable[..., Any], function: Any, progress: Optional[Progress], *arguments: Any) -> Any:
    """Runs a long call of the library on a thread of its own: Ctrl-C comes through here, and stops it.

    `ask` calls the function, with `arguments` and what it tells how far it is.
    """
    check(progress)
    call = _LongCall(ask, function, arguments)
    try:
        call.start()
        told = (0, 0)
        while not call.ended.wait(_INTERVAL):
            told = call.tell(progress, told)
        call.tell(progress, told)
    except BaseException:
        call.stop()
        raise
    if call.error is not None:
        raise call.error
    return call.answer


class _LongCall(threading.Thread):
    def __init__(self, ask: Callable[..., Any], function: Any, arguments: tuple[Any, ...]) -> None:
        super().__init__(name="sop-call", daemon=True)
        self.ask = ask
        self.function = function
        self.arguments = arguments
        # Written by the library itself: it never waits for the GIL, which a daemon thread does not outlive.
        self.cell = ProgressCell()
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.answer: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        self.begun.set()
        try:
            if self.cell.stop:
                return  # before it began; nobody waits for it
            self.answer = self.ask(self.function, *self.arguments, PROGRESS_TO_CELL, ctypes.byref(self.cell))
        except BaseException as error:
            self.error = error
        finally:
            self.ended.set()

    def stop(self) -> None:
        """Ends the call and waits for that. Ctrl-C may have come while the thread was being started."""
        self.cell.stop = 1
        if self.begun.wait(_INTERVAL):
            self.ended.wait()

    def tell(self, progress: Optional[Progress], told: tuple[int, int]) -> tuple[int, int]:
        """Passes on the newest figures, if they are new."""
        figures = (self.cell.done, self.cell.total)
        if progress is not None and figures != told:
            progress(*figures)
        return figures
