"""Git's large files, read: the pointers that git holds, and the batch by which git-lfs asks where the files are
(https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec

from p2pmodel.content import Blob, RepoKind, Snapshot
from p2pmodel.gateway.response import Call, Response

_KIND: Final = ("Content-Type", "application/vnd.git-lfs+json; charset=utf-8")


class _Object(msgspec.Struct):
    oid: str
    size: int


class _Ref(msgspec.Struct):
    name: str = ""


class _Batch(msgspec.Struct):
    operation: str
    objects: list[_Object]
    ref: _Ref | None = None


@dataclass(frozen=True, slots=True)
class DownloadBatch:
    objects: list[_Object]
    revision: str  # the branch that git is on, "" where it does not say


def lfs_pointer(blob: Blob) -> bytes:
    """What git holds in the place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{blob.id.hex}\nsize {blob.size}\n".encode()


def read_download_batch(body: bytes) -> DownloadBatch | None:
    """None for anything else."""
    try:
        batch = msgspec.json.decode(body, type=_Batch)
    except (ValueError, RecursionError):
        return None
    if batch.operation != "download":
        return None
    name = batch.ref.name if batch.ref else ""
    return DownloadBatch(batch.objects, name.removeprefix("refs/heads/").removeprefix("refs/tags/"))


def download_batch(batch: DownloadBatch, snapshot: Snapshot, call: Call) -> Response | None:
    """Our own places for all of the files; None if one of them is not of this snapshot. Git sends no credential to a place
    unless the batch says so: the client's own, back to it."""
    paths = {entry.blob.id.hex: entry for entry in snapshot.files if entry.blob is not None}
    prefix = "" if snapshot.repo.kind is RepoKind.MODEL else f"{snapshot.repo.kind}s/"
    base = f"{call.request.endpoint}/{prefix}{snapshot.repo.name}/resolve/{snapshot.commit}"
    credential = call.request.header("authorization")
    objects: list[dict[str, Any]] = []
    for asked in batch.objects:
        entry = paths.get(asked.oid)
        if entry is None or entry.size != asked.size:
            return None
        action: dict[str, Any] = {"href": f"{base}/{quote(entry.path)}"}
        if credential is not None:
            action["header"] = {"Authorization": credential}
        objects.append({"oid": asked.oid, "size": asked.size, "authenticated": True, "actions": {"download": action}})
    return Response(200, [_KIND], msgspec.json.encode({"transfer": "basic", "objects": objects}))
