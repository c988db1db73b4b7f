"""What systemd and a service say to each other: readiness and watchdog out, sockets and credentials in.

Plain variables and datagrams (sd_notify(3), sd_listen_fds(3), systemd.exec(5) "CREDENTIALS"); outside systemd all of it is
silence. Nothing here fails the daemon: a manager that went away is no reason to stop serving.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_FIRST_FD: Final = 3  # SD_LISTEN_FDS_START


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell the manager, e.g. ``READY=1``, ``STOPPING=1``, ``WATCHDOG=1``, ``STATUS=…``. False if nobody was told."""
    address = environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return False
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)  # a manager that does not read must not stop us
        with contextlib.suppress(OSError):
            sock.sendto(state.encode(), address)
            return True
    return False


def watchdog_interval_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often to send ``WATCHDOG=1``: half of what the manager waits for; None if it does not watch this process."""
    pid, usec = environ.get("WATCHDOG_PID"), environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or int(usec) == 0 or pid not in {None, str(os.getpid())}:
        return None
    return int(usec) / 2_000_000


def listen_fds(environ: Mapping[str, str] = os.environ) -> dict[str, list[int]]:
    """The sockets that the manager bound for us, by name (``FileDescriptorName=``). They are ours to close."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[int]] = {}
    for index in range(int(count)):
        name = names[index] if index < len(names) and names[index] else "unknown"
        os.set_inheritable(_FIRST_FD + index, False)
        found.setdefault(name, []).append(_FIRST_FD + index)
    return found


def credential(name: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file of a credential (``LoadCredential=``), if the manager gave us one."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    file = Path(folder, name) if folder else None
    return file if file is not None and file.is_file() else None
