"""How `sop.aio` is made: classes whose calls are those of the package's own classes, on threads, awaited."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Dict, Optional, Tuple, Type, TypeVar

from .context import Context

# Calls that run at the same time; further ones wait for a thread.
_THREADS = 32
# Items that an iteration fetches at a time: few for those that stop early, more as it goes on.
_BATCH_MIN, _BATCH_MAX = 64, 1024

_pool: Optional[ThreadPoolExecutor] = None
_mirrors: Dict[type, Type[Mirror]] = {}

_Self = TypeVar("_Self", bound="Mirror")
# A call, to be made with a context and with the object that is mirrored.
_Call = Callable[[Context, Any], Any]


class Mirror:
    """An object of the package, `sync`, with calls that are awaited. They take no context."""

    sync: Any

    def __init_subclass__(cls, of: type) -> None:
        """Gives the class what the class `of` has and it has not itself."""
        cls.__doc__ = cls.__doc__ or of.__doc__
        _mirrors[of] = cls
        for name in dir(of):
            if not name.startswith("_") and not hasattr(cls, name):
                setattr(cls, name, _mirrored(of, name))

    @classmethod
    def _of(cls: Type[_Self], sync: Any) -> _Self:
        made = cls.__new__(cls)
        made.sync = sync
        return made

    def _context(self) -> Context:
        """The context of one call."""
        return Context()

    def _object(self, context: Context) -> Any:
        """What takes one call."""
        return self.sync

    async def _run(self, call: _Call) -> Any:
        context = self._context()
        return await run(context, lambda: call(context, self._object(context)))

    def _iterate(self, call: _Call) -> AsyncIterator[Any]:
        context = self._context()
        return batches(context, lambda: call(context, self._object(context)))

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<sop.aio of {self.sync!r}>"

    if TYPE_CHECKING:  # what is made above

        def __getattr__(self, name: str) -> Callable[..., Any]: ...


def _mirrored(of: type, name: str) -> Any:
    """A member of a class as one of its mirror."""
    member = inspect.getattr_static(of, name)
    if isinstance(member, property):
        return property(lambda self: getattr(self.sync, name), doc=member.__doc__)
    function = getattr(of, name)
    signature = inspect.signature(function)
    takes_context = "ctx" in signature.parameters

    def with_arguments(found: Any, context: Context, given: Tuple[Any, ...], named: Dict[str, Any]) -> Any:
        first = (context,) if takes_context else ()
        plain = {key: _plain(value) for key, value in named.items()}
        return getattr(found, name)(*first, *map(_plain, given), **plain)

    async def of_class(*given: Any, **named: Any) -> Any:
        context = Context()
        return wrapped(await run(context, lambda: with_arguments(of, context, given, named)))

    async def awaited(self: Mirror, *given: Any, **named: Any) -> Any:
        return wrapped(await self._run(lambda context, sync: with_arguments(sync, context, given, named)))

    def iterated(self: Mirror, *given: Any, **named: Any) -> AsyncIterator[Any]:
        return self._iterate(lambda context, sync: with_arguments(sync, context, given, named))

    is_of_class = isinstance(member, (classmethod, staticmethod))
    is_iterator = "Iterator" in str(signature.return_annotation)
    made: Any = of_class if is_of_class else iterated if is_iterator else awaited
    made = functools.wraps(function)(made)
    kept = [parameter for key, parameter in signature.parameters.items() if key != "ctx"]
    made.__signature__ = signature.replace(parameters=kept)
    return staticmethod(made) if is_of_class else made


async def run(context: Context, function: Callable[[], Any]) -> Any:
    """The result of a function that runs on a thread with a context.

    When the task is cancelled the context is, which stops what the function calls. Only when the thread is
    done with it does the task go on, so that nothing runs behind its back; what was complete by then stays.
    """
    work = _threads().submit(function)
    answer = asyncio.wrap_future(work)
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        if not work.cancel():
            context.cancel()
            await _ended(answer)
        raise


async def batches(context: Context, begin: Callable[[], Any]) -> AsyncIterator[Any]:
    """Iterates over what `begin` gives, in batches that are fetched on threads."""
    iterator = await run(context, begin)
    size = _BATCH_MIN
    while batch := await run(context, functools.partial(_next, iterator, size)):
        for element in batch:
            yield element
        size = min(2 * size, _BATCH_MAX)


def _next(iterator: Any, size: int) -> Any:
    return list(islice(iterator, size))


async def _ended(answer: asyncio.Future[Any]) -> None:
    """Waits for a call, also when the task is cancelled again meanwhile."""
    while not answer.done():
        try:
            await asyncio.wait([answer])
        except asyncio.CancelledError:
            continue
    answer.exception()  # seen: what the task is told is that it was cancelled


def wrapped(value: Any) -> Any:
    """A result: as a mirror of it where it has calls to be awaited."""
    mirror = _mirrors.get(type(value))
    return value if mirror is None else mirror._of(value)


def _plain(value: Any) -> Any:
    """An argument, which may be a mirror."""
    return value.sync if isinstance(value, Mirror) else value


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="sop-aio")
    return _pool


def _forget_threads() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
