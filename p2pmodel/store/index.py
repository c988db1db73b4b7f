"""What the store knows besides the bytes: one SQLite file (WAL). It holds names of private repos, so its mode is 0600.

The files are the truth about blobs; the index adds what cannot be read off them: digests, seals, aliases, listings. A
damaged index is set aside as `index.sqlite.damaged` and begun anew; what it knew is learnt again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import blake3
import msgspec
import structlog

from p2pmodel.content import Blob, BlobId, FileEntry, Hub, Repo, RepoKind, Seal, Snapshot
from p2pmodel.errors import StoreDamagedError, StoreError, StoreFullError, StoreTooNewError
from p2pmodel.store.adoption import Adopted
from p2pmodel.store.disk import disk_errors

log = structlog.get_logger()

_MIGRATIONS: Final = (  # step n leads from version n to n + 1
    """
    CREATE TABLE blobs (id TEXT PRIMARY KEY, size INTEGER NOT NULL, used INTEGER NOT NULL, digests BLOB NOT NULL,
                        seal BLOB NOT NULL, checksum BLOB NOT NULL);
    CREATE TABLE aliases (alias TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE snapshots (repo TEXT, hash TEXT, public INTEGER NOT NULL, files BLOB NOT NULL, listing BLOB NOT NULL,
                            checksum BLOB NOT NULL, PRIMARY KEY (repo, hash));
    CREATE TABLE refs (repo TEXT, revision TEXT, hash TEXT NOT NULL, PRIMARY KEY (repo, revision)) WITHOUT ROWID;
    CREATE TABLE documents (key TEXT PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE pins (repo TEXT, hash TEXT, PRIMARY KEY (repo, hash)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE adopted (id TEXT PRIMARY KEY, path BLOB NOT NULL, device TEXT NOT NULL, inode TEXT NOT NULL,
                          size INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, linked INTEGER NOT NULL,
                          private INTEGER NOT NULL) WITHOUT ROWID;
    """,
)
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FIRST_BYTE: Final = 0xFF  # a result code's low byte is its kind, the rest says where

_Row = tuple[str, int, str | None, int]  # path, size, blob name and blob size of a file of a snapshot


@dataclass(frozen=True, slots=True)
class Known:
    """A blob's row, without its digests."""

    size: int
    used: int  # unix seconds


class Index:
    """Safe to use from many threads: one connection behind one lock. Errors: StoreFullError, StoreDamagedError, StoreError."""

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self._path = path
        self._fsync = fsync
        self._lock = threading.Lock()
        try:
            self._connection = self._open()
        except (StoreDamagedError, UnicodeDecodeError) as error:
            log.warning("index_damaged", path=str(path), reason=str(error))
            self._set_aside()
            self._connection = self._open()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # Blobs

    def blobs(self) -> dict[BlobId, Known]:
        rows = self._rows("SELECT id, size, used FROM blobs")
        return {BlobId.parse(name): Known(size, used) for name, size, used in rows}

    def put_blob(self, blob: Blob, digests: bytes, seal: Seal | None, alias: BlobId | None, *, used: int) -> None:
        packed = seal.root + seal.signer + seal.signature if seal else b""
        row = (str(blob.id), blob.size, used, digests, packed, _checksum(str(blob.id), digests, packed))
        with self._transaction() as run:
            run("INSERT OR REPLACE INTO blobs VALUES (?, ?, ?, ?, ?, ?)", row)
            if alias is not None:
                run("INSERT OR REPLACE INTO aliases VALUES (?, ?)", (str(alias), str(blob.id)))

    def digests(self, blob: BlobId) -> tuple[bytes, Seal | None] | None:
        """None also if the row is not what was written: digests can be had again from the bytes."""
        row = self._row("SELECT digests, seal, checksum FROM blobs WHERE id = ?", str(blob))
        if row is None or row[2] != _checksum(str(blob), *row[:2]):
            return None
        digests, seal, _ = row
        return digests, Seal(seal[:32], seal[32:64], seal[64:]) if seal else None

    def forget_blob(self, blob: BlobId) -> None:
        with self._transaction() as run:
            run("DELETE FROM blobs WHERE id = ?", (str(blob),))
            run("DELETE FROM aliases WHERE id = ?", (str(blob),))
            run("DELETE FROM adopted WHERE id = ?", (str(blob),))

    def put_adopted(self, blob: BlobId, adopted: Adopted) -> None:
        # An inode or a device may have all 64 bits, SQLite's integers are signed.
        device, inode = (str(number) for number in (adopted.device, adopted.inode))
        row = (str(blob), os.fsencode(adopted.path), device, inode, adopted.size, adopted.mtime_ns, adopted.ctime_ns)
        self._write("INSERT OR REPLACE INTO adopted VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *row, adopted.linked, adopted.private)

    def forget_adopted(self, blob: BlobId) -> None:
        self._write("DELETE FROM adopted WHERE id = ?", str(blob))

    def adopted(self) -> dict[BlobId, Adopted]:
        rows = self._rows("SELECT * FROM adopted")
        return {
            BlobId.parse(name): Adopted(
                Path(os.fsdecode(path)), int(device), int(inode), size, mtime, ctime, bool(linked), bool(private)
            )
            for name, path, device, inode, size, mtime, ctime, linked, private in rows
        }

    def put_alias(self, alias: BlobId, blob: BlobId) -> None:
        self._write("INSERT OR REPLACE INTO aliases VALUES (?, ?)", str(alias), str(blob))

    def aliases(self) -> dict[BlobId, BlobId]:
        return {BlobId.parse(alias): BlobId.parse(name) for alias, name in self._rows("SELECT alias, id FROM aliases")}

    def touch(self, uses: Mapping[BlobId, int]) -> None:
        with self._transaction() as run:
            for blob, used in uses.items():
                run("UPDATE blobs SET used = ? WHERE id = ?", (used, str(blob)))

    # Snapshots

    def put_snapshot(self, snapshot: Snapshot) -> None:
        files: list[_Row] = [
            (f.path, f.size, str(f.blob.id) if f.blob else None, f.blob.size if f.blob else 0) for f in snapshot.files
        ]
        key, packed = _key(snapshot.repo), msgspec.json.encode(files)
        checksum = _checksum(key, snapshot.commit, str(int(snapshot.public)), packed, snapshot.listing)
        row = (key, snapshot.commit, int(snapshot.public), packed, snapshot.listing, checksum)
        self._write("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?)", *row)

    def snapshot(self, repo: Repo, commit: str) -> Snapshot | None:
        query = "SELECT public, files, listing, checksum FROM snapshots WHERE repo = ? AND hash = ?"
        row = self._row(query, _key(repo), commit)
        if row is None:
            return None
        public, packed, listing, checksum = row
        if checksum != _checksum(_key(repo), commit, str(public), packed, listing):
            log.warning("snapshot_damaged", commit=commit)
            return None
        files = msgspec.json.decode(packed, type=list[_Row])
        entries = tuple(
            FileEntry(path, size, Blob(BlobId.parse(name), whole) if name else None) for path, size, name, whole in files
        )
        return Snapshot(repo, commit, entries, listing, bool(public))

    def snapshots(self) -> Sequence[tuple[Repo, str]]:
        return [(_repo(key), commit) for key, commit in self._rows("SELECT repo, hash FROM snapshots ORDER BY repo, hash")]

    def forget_snapshot(self, repo: Repo, commit: str) -> None:
        with self._transaction() as run:
            for table in ("snapshots", "refs", "pins"):
                run(f"DELETE FROM {table} WHERE repo = ? AND hash = ?", (_key(repo), commit))  # noqa: S608  # a constant

    def put_ref(self, repo: Repo, revision: str, commit: str) -> None:
        self._write("INSERT OR REPLACE INTO refs VALUES (?, ?, ?)", _key(repo), revision, commit)

    def ref(self, repo: Repo, revision: str) -> str | None:
        row = self._row("SELECT hash FROM refs WHERE repo = ? AND revision = ?", _key(repo), revision)
        return cast("str", row[0]) if row else None

    def revisions(self, repo: Repo, commit: str) -> list[str]:
        """The branches and tags known to point at a commit."""
        rows = self._rows("SELECT revision FROM refs WHERE repo = ? AND hash = ? ORDER BY revision", _key(repo), commit)
        return [revision for (revision,) in rows]

    def put_document(self, key: str, body: bytes) -> None:
        self._write("INSERT OR REPLACE INTO documents VALUES (?, ?)", key, body)

    def document(self, key: str) -> bytes | None:
        row = self._row("SELECT body FROM documents WHERE key = ?", key)
        return cast("bytes", row[0]) if row else None

    # Pins

    def pin(self, repo: Repo, commit: str) -> None:
        self._write("INSERT OR REPLACE INTO pins VALUES (?, ?)", _key(repo), commit)

    def unpin(self, repo: Repo, commit: str) -> None:
        self._write("DELETE FROM pins WHERE repo = ? AND hash = ?", _key(repo), commit)

    def pins(self) -> Sequence[tuple[Repo, str]]:
        return [(_repo(key), commit) for key, commit in self._rows("SELECT repo, hash FROM pins ORDER BY repo, hash")]

    # The connection

    def _open(self) -> sqlite3.Connection:
        with disk_errors("opening the index"):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        with _index_errors():
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            with _index_errors():
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {'FULL' if self._fsync else 'OFF'}")
                _check(connection)
                _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self) -> None:
        with disk_errors("setting a damaged index aside"):
            self._path.replace(self._path.with_name(self._path.name + ".damaged"))
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, _index_errors():
            return self._connection.execute(statement, values).fetchall()

    def _row(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        rows = self._rows(statement, *values)
        return rows[0] if rows else None

    def _write(self, statement: str, *values: object) -> None:
        with self._lock, _index_errors():
            self._connection.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., object]]:
        with self._lock, _index_errors(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection.execute


def _check(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise StoreDamagedError("The index does not pass SQLite's own check.")


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        raise StoreTooNewError(
            f"The index was written by a newer p2pmodel (version {version}, this one knows {len(_MIGRATIONS)}).",
            next_step="Upgrade p2pmodel, or set node.state_dir to another directory.",
        )
    for number, step in enumerate(_MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN; {step} PRAGMA user_version = {number}; COMMIT;")


@contextmanager
def _index_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & _FIRST_BYTE
        if code == sqlite3.SQLITE_FULL:
            raise StoreFullError(
                "No room left on the device while writing the index.",
                next_step="Free some space and run the same command again.",
            ) from error
        if code in _DAMAGE:
            raise StoreDamagedError(
                f"The index is damaged: {error}.", next_step="Restart the daemon: it sets the index aside and learns it anew."
            ) from error
        raise StoreError(f"The index failed: {error}.") from error


def _checksum(*parts: str | bytes) -> bytes:
    """Bit rot inside a row passes SQLite's own check."""
    hasher = blake3.blake3()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(b"%d:" % len(data) + data)
    return hasher.digest(length=16)


def _key(repo: Repo) -> str:
    return f"{repo.hub}/{repo.kind}/{repo.name}"


def _repo(key: str) -> Repo:
    hub, kind, name = key.split("/", 2)
    return Repo(Hub(hub), RepoKind(kind), name)
