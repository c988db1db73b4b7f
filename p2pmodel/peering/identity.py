"""A node's own key: made once, kept in a file that only this user can read, named by the node id."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from p2pmodel.content import NodeId
from p2pmodel.content.naming import node_id_of
from p2pmodel.errors import ConfigError
from p2pmodel.whole_file import write_whole

_KEY_BYTES: Final = 32
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Identity:
    """An Ed25519 key. It signs seals and this node's certificate requests; nothing else proves who we are."""

    key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, state_dir: Path) -> Self:
        """The node's key from ``<state>/identity/node.key``, made on the first start. Raises ConfigError if it is exposed,
        damaged or out of reach. Blocks."""
        path = state_dir / "identity" / "node.key"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            raw = _read_private(path)
            return cls(Ed25519PrivateKey.from_private_bytes(raw) if raw is not None else _create(path))
        except OSError as error:
            raise ConfigError(f"The node's key {path} is out of reach: {error.strerror}.") from error
        except ValueError as error:
            raise ConfigError(
                f"The node's key {path} is damaged.",
                next_step="Remove it: the node gets a new key, and a new id, when it starts.",
            ) from error

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def node(self) -> NodeId:
        return node_id_of(self.public)

    def secret(self, purpose: bytes) -> bytes:
        """A key of this node's for something else, the same after every start."""
        return HKDF(hashes.SHA256(), _KEY_BYTES, None, purpose).derive(self.key.private_bytes_raw())


def _read_private(path: Path) -> bytes | None:
    """The file's bytes; None if there is none. Raises ConfigError if others can read it: it would be theirs as well."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if status.st_mode & _OTHERS or status.st_uid != os.geteuid():
            raise ConfigError(
                f"{path} must belong to this user and be closed to others.", next_step=f"chown and chmod 600 {path}"
            )
        return file.read(_KEY_BYTES + 1)


def _create(path: Path) -> Ed25519PrivateKey:
    """A new key, whole on disk before it has its name: half a key would cost the node its id."""
    key = Ed25519PrivateKey.generate()
    write_whole(path, key.private_bytes_raw(), 0o600)
    return key
