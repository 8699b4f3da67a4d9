"""Artefacts of models: bytes of any length, written and read piece by piece."""

from __future__ import annotations

import ctypes
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Iterator

from .. import _json
from .._library import Handle, call, call_handle, call_number, native
from .._progress import Progress
from ..context import Context, context_id
from ..errors import ValidationError

# What goes over at once. The library keeps an artefact in chunks of a mebibyte.
PIECE = 4 << 20
CHUNK = 1 << 20


class ArtifactWriter(io.RawIOBase):
    """A file to write the artefact of a new version of a model to.

    As a context manager it saves the model on exit; left by an exception it leaves nothing. `version` is the
    number of the version, once it is saved. `names` are category and name, each with its length.
    """

    def __init__(
        self,
        ctx: Context,
        store: Handle,
        names: Any,
        model: bytes,
        format: bytes,
        progress: Progress | None = None,
        total: int = 0,
    ) -> None:
        super().__init__()
        self._progress = progress
        self._total = total
        self._done = 0
        # Held: a context that nobody holds is removed.
        self._ctx = ctx
        self._context = context_id(ctx)
        arguments = (self._context, store.value, *names, format, len(format))
        self._upload: Handle | None = call_handle(native.sop_model_upload, *arguments)
        self._model = model
        self.version: int | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self._upload is None:
            raise ValueError("the artefact was saved or given up")
        view = memoryview(data).cast("B")
        for start in range(0, len(view), PIECE):
            self._write_piece(view[start : start + PIECE])
        return len(view)

    def _write_piece(self, piece: memoryview) -> None:
        assert self._upload is not None
        if piece.readonly:
            # A pointer to it without a copy takes NumPy or an object of type bytes.
            address: Any = bytes(piece)
        else:
            address = (ctypes.c_char * len(piece)).from_buffer(piece)
        call(native.sop_model_upload_write, self._context, self._upload.value, address, len(piece))
        self._done += len(piece)
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))

    def save(self) -> int:
        """Saves the model with what was written; gives the version."""
        if self._upload is None:
            raise ValueError("the artefact was saved or given up")
        arguments = (self._context, self._upload.value, self._model, len(self._model))
        self.version = call_number(native.sop_model_upload_save, *arguments)
        self._upload = None
        return self.version

    def discard(self) -> None:
        """Gives up what was written."""
        self._upload = None

    def close(self) -> None:
        self.discard()
        super().close()

    def __enter__(self) -> ArtifactWriter:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if exc_type is None and self._upload is not None:
            self.save()
        self.close()


class ArtifactReader(io.RawIOBase):
    """The artefact of a version as a file."""

    def __init__(
        self,
        ctx: Context,
        store: Handle,
        names: Any,
        version: int,
        size: int,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self._progress = progress
        # Held: a context that nobody holds is removed.
        self._ctx = ctx
        self._context = context_id(ctx)
        self._store = store
        self._names = names
        self._version = version
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("a file has no place before its beginning")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if not len(view):
            return 0
        out = ctypes.c_size_t()
        call(
            native.sop_model_read_artifact,
            self._context,
            self._store.value,
            *self._names,
            self._version,
            self._at,
            (ctypes.c_char * len(view)).from_buffer(view),
            len(view),
            ctypes.byref(out),
        )
        self._at += out.value
        if self._progress is not None and out.value:
            self._progress(self._at, self._size)
        return out.value


def size_of(source: Any) -> int:
    """The bytes of what `pieces_of` takes; 0 where nobody knows."""
    if isinstance(source, (str, os.PathLike)):
        return os.stat(source).st_size
    if hasattr(source, "read"):
        if not _is_seekable(source):
            return 0
        start = source.tell()
        size = source.seek(0, io.SEEK_END) - start
        source.seek(start)
        return int(size)
    return memoryview(source).nbytes


def pieces_of(source: Any) -> Callable[[], Iterator[Any]]:
    """What gives the pieces of bytes, of a file at a path, or of an open one, each time anew."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not path.is_file():
            raise ValidationError(f"there is no file {path}; bytes are given as bytes")
        return lambda: _of_file(path)
    if hasattr(source, "read"):
        start = source.tell() if _is_seekable(source) else None
        return lambda: _of_stream(source, start)
    try:
        view = memoryview(source).cast("B")
    except TypeError:
        kind = type(source).__name__
        raise ValidationError(f"an artefact is bytes, a path or an open file, not {kind}") from None
    return lambda: iter((view,))


def _of_file(path: Path) -> Iterator[Any]:
    with open(path, "rb") as file:
        yield from _of_stream(file, None)


def _is_seekable(stream: Any) -> bool:
    return bool(getattr(stream, "seekable", lambda: False)())


def _of_stream(stream: Any, start: int | None) -> Iterator[Any]:
    if start is not None:
        stream.seek(start)
    while piece := stream.read(PIECE):
        if isinstance(piece, str):
            raise ValidationError("the artefact is a file of text: open it as binary")
        yield piece


def format_bytes(format: Any) -> bytes:
    """The name of a format, encoded."""
    return _json.encode_text(format, "the format of an artefact") if format else b""
