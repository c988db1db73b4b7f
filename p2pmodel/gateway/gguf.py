"""Which file llama.cpp means by `-hf org/model:tag`: the hub says so (`/v2/…/manifests/tag`); with the hub gone, the listing.

llama.cpp's own words: the tag is a quantisation, in any case; without one Q4_K_M, and if there is none the first file.
"""

from __future__ import annotations

from typing import Any, Final

from p2pmodel.content import FileEntry, Snapshot
from p2pmodel.errors import EntryNotFoundError

_NO_TAG: Final = "latest"
_USUAL: Final = "q4_k_m"
_PROJECTOR: Final = "mmproj"  # what a model that sees needs beside it


def manifest(snapshot: Snapshot, tag: str) -> dict[str, Any]:
    """Of what the hub answers, the fields that llama.cpp reads. Raises EntryNotFoundError."""
    found = sorted((entry for entry in snapshot.files if entry.path.lower().endswith(".gguf")), key=lambda entry: entry.path)
    models = [entry for entry in found if _PROJECTOR not in entry.path.lower()]
    wanted = _USUAL if tag == _NO_TAG else tag.lower()
    chosen = next((entry for entry in models if wanted in entry.path.lower()), None)
    if chosen is None and tag == _NO_TAG:
        chosen = next(iter(models), None)
    if chosen is None:
        raise EntryNotFoundError(f"{snapshot.repo} has no GGUF file for {tag}.", commit=snapshot.commit)
    named = {"ggufFile": _described(chosen)}
    projector = next((entry for entry in found if entry not in models), None)
    return named if projector is None else {**named, "mmprojFile": _described(projector)}


def _described(entry: FileEntry) -> dict[str, Any]:
    return {"rfilename": entry.path, "size": entry.size}
