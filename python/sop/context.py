"""The context of a call: what can be cancelled."""

from __future__ import annotations

import os
import weakref
from typing import Any

from ._library import native, take_text
from .errors import ValidationError


class Context:
    """Passed to every call. `cancel` stops the call running with it on another thread; later ones fail.

    As a context manager it is cancelled on exit: nothing goes on running with it. Pickled, it is a new one.
    """

    def __init__(self) -> None:
        self._cancelled = False
        self._create()

    def _create(self) -> None:
        self._pid = os.getpid()
        self._id = int(native.createContext())
        weakref.finalize(self, _remove, self._id, self._pid).atexit = False

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __reduce__(self) -> tuple[Any, ...]:
        return Context, ()

    def __repr__(self) -> str:
        return f"<sop.Context {self._id}{', cancelled' if self._cancelled else ''}>"

    @property
    def id(self) -> int:
        """Number of the context in the library. In a forked child it is a new one."""
        if self._pid != os.getpid() and not self._cancelled:
            self._create()
        return self._id

    def cancel(self) -> None:
        """Stops calls running with this context (commit, optimize, scan, query) and refuses later ones."""
        native.cancelContext(self.id)
        self._cancelled = True

    def error(self) -> str | None:
        """Why the context cannot be used, or None when it can."""
        return take_text(native.contextError(self.id))

    def is_valid(self) -> bool:
        """True until the context is cancelled."""
        return self.error() is None


def _remove(context: int, pid: int) -> None:
    if os.getpid() == pid:
        native.removeContext(context)


def context_id(ctx: Context | None) -> int:
    """The library's number for a context argument: 0, which is never cancelled, for None."""
    if ctx is None:
        return 0
    if not isinstance(ctx, Context):
        raise ValidationError(f"the context must be a sop.Context, not {type(ctx).__name__}")
    return ctx.id
