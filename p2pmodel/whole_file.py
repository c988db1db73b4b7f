"""A small file that others read at any time, or that must outlive a power cut: whole under its name, or not there."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(file: Path, content: bytes, mode: int) -> None:
    """Replaces what has that name. `mode` is what it gets, whatever the umask. Blocks; raises OSError."""
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as handle:
        os.fchmod(handle.fileno(), mode)
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    fresh.replace(file)
