"""Writing a file so that a crash leaves either the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def write_atomically(path: Path, content: bytes, *, replacing: bytes | None = None) -> None:
    """Replace the file at `path`; a symbolic link stays and its target is replaced.

    The new file keeps the old one's permissions.

    Args:
        path: The file.
        content: What it shall hold.
        replacing: What it must hold now, if somebody else may change it.

    Raises:
        OSError: It cannot be written, or has changed; what is there is untouched.
    """
    target = path.resolve()
    mode = target.stat().st_mode & 0o7777 if target.exists() else None
    temporary = target.with_name(f".{target.name[:64]}.{os.urandom(8).hex()}")
    try:
        with _created(temporary, 0o666 if mode is None else mode & 0o666) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(mode)  # whatever the umask
        if replacing is not None:
            _require(target, replacing)
        with _busy_explained():
            temporary.replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def delete(path: Path) -> None:
    """Delete the file at `path`.

    Raises:
        OSError: It cannot be deleted.
    """
    with _busy_explained():
        path.unlink()


@contextlib.contextmanager
def _busy_explained() -> Iterator[None]:
    """Say what to do about a file that is a mount point, as `docker -v FILE:FILE` makes it.

    The system neither replaces nor deletes a mount point.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        advice = "if the file is mounted by itself, mount the folder that holds it instead"
        raise OSError(errno.EBUSY, f"{error.strerror}; {advice}") from None


def _created(path: Path, mode: int) -> IO[bytes]:
    """A new file, with what the umask leaves of `mode`."""
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))


def _require(target: Path, content: bytes) -> None:
    if target.read_bytes() != content:
        raise OSError("it changed while it was being updated")
