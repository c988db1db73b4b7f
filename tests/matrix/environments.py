"""An environment of its own for each client, made once from the public registry and kept.

They lie in `$P2PMODEL_TEST_ENVIRONMENTS`, or below the user's cache directory.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

_SETUP_S: Final = 900


class MissingError(Exception):
    """The client cannot be had here: no registry, no program."""


def folder() -> Path:
    """Where environments are kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p2pmodel-tests"
    return Path(os.environ.get("P2PMODEL_TEST_ENVIRONMENTS") or cache)


@dataclass(frozen=True, slots=True)
class Pip:
    """A Python with packages in it; `bare` ones come without their dependencies, which are too heavy or too old."""

    packages: tuple[str, ...]
    bare: tuple[str, ...] = ()

    def make(self) -> Mapping[str, str]:
        place = _place(f"{sys.version_info.major}.{sys.version_info.minor}", *self.packages, *self.bare)
        with _making(place) as needed:
            if needed:
                _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(place))
                install = (sys.executable, "-m", "pip", "--python", str(place / "bin/python"), "install", "-q")
                for packages, options in ((self.packages, ()), (self.bare, ("--no-deps",))):
                    if packages:
                        _run(*install, "--disable-pip-version-check", *options, *packages)
        return {"PROGRAM": str(place / "bin/python"), "PATH": f"{place}/bin:{os.environ['PATH']}"}


@dataclass(frozen=True, slots=True)
class Npm:
    packages: tuple[str, ...]

    def make(self) -> Mapping[str, str]:
        node = shutil.which("node")
        if node is None:
            raise MissingError("there is no node here (Debian: nodejs, npm)")
        place = _place("npm", *self.packages)
        with _making(place) as needed:
            if needed:
                place.mkdir(exist_ok=True)
                _run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(place), *self.packages)
        return {"PROGRAM": node, "PATH": os.environ["PATH"], "MODULES": str(place / "node_modules")}


@dataclass(frozen=True, slots=True)
class Programs:
    """Programs of the system, driven by a script in our own Python; none for a request that was written down."""

    names: tuple[str, ...] = ()

    def make(self) -> Mapping[str, str]:
        missing = [name for name in self.names if shutil.which(name) is None]
        if missing:
            raise MissingError(f"there is no {', '.join(missing)} here (Debian has it under the same name, or aria2)")
        return {"PROGRAM": sys.executable, "PATH": os.environ["PATH"]}


def _place(*names: str) -> Path:
    """Readable, and another one for every other set of packages."""
    return folder() / f"{names[0]}-{names[1].replace('/', '-')}-{sha256(repr(names).encode()).hexdigest()[:8]}"


@contextmanager
def _making(place: Path) -> Iterator[bool]:
    """Whether it is still to be made; whoever else wants the same one waits."""
    place.parent.mkdir(parents=True, exist_ok=True)
    ready = place / "ready"
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not ready.exists()
        ready.touch()


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SETUP_S)
    except FileNotFoundError as error:
        raise MissingError(f"there is no {command[0]} here") from error
    except subprocess.CalledProcessError as error:
        raise MissingError(f"{' '.join(command[-3:])}: {error.stderr.strip()[-400:]}") from error
