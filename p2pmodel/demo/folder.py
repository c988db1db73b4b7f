"""Repos from a folder: DIR/models/org/name/… and DIR/datasets/org/name/…, with an optional DIR/hub.json beside them.

hub.json: ``{"users": {"<token>": "<name>"}, "private": ["org/name"], "gated": ["org/name"]}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2pmodel.content import RepoKind


@dataclass(frozen=True, slots=True)
class FolderRepo:
    kind: RepoKind
    name: str
    files: dict[str, Path]
    private: bool
    gated: bool


def read_users(directory: Path) -> dict[str, str]:
    """Names by token."""
    return dict(_settings(directory).get("users", {}))


def read_repos(directory: Path) -> Iterator[FolderRepo]:
    settings = _settings(directory)
    for kind in RepoKind:
        for folder in sorted((directory / f"{kind}s").glob("*/*/")):
            name = f"{folder.parent.name}/{folder.name}"
            files = {str(path.relative_to(folder).as_posix()): path for path in sorted(folder.rglob("*")) if path.is_file()}
            if files:
                yield FolderRepo(kind, name, files, name in settings.get("private", []), name in settings.get("gated", []))


def _settings(directory: Path) -> dict[str, dict[str, str]]:
    file = directory / "hub.json"
    return json.loads(file.read_text()) if file.exists() else {}
