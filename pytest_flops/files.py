"""Writing a file so that a crash leaves either the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
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
    mode = target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask()
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:64]}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        if replacing is not None:
            _require(target, replacing)
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def _require(target: Path, content: bytes) -> None:
    if target.read_bytes() != content:
        raise OSError("it changed while it was being updated")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
