"""Large files to Hugging Face in parts: several at a time, and after an interruption only those that are missing.

That is for hubs without Xet, and for who has switched it off: `huggingface_hub` then sends one part after the other, and all of
them again after an interruption. (By Xet it sends in parallel what the hub has not, and renews its token itself.) When its
`upload_folder` asks for these files afterwards, the hub has them.

A hub that takes a file in parts says so in its answer to the LFS batch: where each part goes, and how large it is. These places
are kept with the tags of what has come (`Record`), as another answer may be the beginning of another upload. They are signed
and last for some hours, so that file is its user's alone, and goes when the upload is done; the hub is asked for new ones when
they have run out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import msgspec

from p2pmodel.limits import PUSH_MEMORY_BYTES, PUSH_PARTS_AT_ONCE, PUSH_SILENCE_S, PUSH_TRIES
from p2pmodel.whole_file import write_whole

#: Smaller ones are sent within the commit, or in one piece.
LARGE_BYTES: Final = 10_000_000
#: What storage says of a place that has run out, and the hub of parts that it does not know.
_RUN_OUT: Final = frozenset({400, 401, 403, 404})
_LFS: Final = {"Accept": "application/vnd.git-lfs+json", "Content-Type": "application/vnd.git-lfs+json"}


class Places(msgspec.Struct, frozen=True):
    """The hub's answer for one file: where its parts go, and where it wants to hear that they came."""

    finish: str
    part_bytes: int
    parts: dict[int, str]
    verify: str | None

    @classmethod
    def of(cls, actions: Mapping[str, Any]) -> Self | None:
        """None where the hub wants the file in one piece. Raises ValueError, KeyError or TypeError for what is no answer."""
        header = actions["upload"].get("header") or {}
        if "chunk_size" not in header:
            return None
        parts = {int(number): str(url) for number, url in header.items() if number.isdecimal()}
        verify = (actions.get("verify") or {}).get("href")
        return cls(actions["upload"]["href"], int(header["chunk_size"]), parts, verify)

    def same(self, other: Places, number: int) -> bool:
        """Whether a part that went to the other's place need not go to this one: the address names its upload."""
        return self.part_bytes == other.part_bytes and _upload(self.parts[number]) == _upload(other.parts[number])


def _upload(url: str) -> tuple[str, list[str]]:
    parts = urlsplit(url)
    return parts.path, parse_qs(parts.query).get("uploadId", [])


class Record:
    """One file's unfinished upload, beside this user's other caches: the places, then a line for each part that came."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.places: Places | None = None
        self.tags: dict[int, str] = {}
        try:
            first, *others = file.read_bytes().splitlines()
            self.places = msgspec.json.decode(first, type=Places)
            self.tags = dict(msgspec.json.decode(line, type=tuple[int, str]) for line in others)
        except (OSError, ValueError):
            pass  # none, or cut off in a line: its part is sent again

    def begin(self, places: Places) -> None:
        """From now on these; what came to the same upload before stays."""
        before = self.places
        self.tags = {n: tag for n, tag in self.tags.items() if before and n in places.parts and places.same(before, n)}
        self.places = places
        self._file.parent.mkdir(parents=True, exist_ok=True)
        lines = (msgspec.json.encode(line) + b"\n" for line in (places, *self.tags.items()))
        write_whole(self._file, b"".join(lines), 0o600)

    def came(self, number: int, tag: str) -> None:
        self.tags[number] = tag
        with self._file.open("ab") as file:
            file.write(msgspec.json.encode((number, tag)) + b"\n")

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to; `library` is huggingface_hub, `records` the directory of unfinished uploads."""

    library: Any
    endpoint: str
    repo: str
    kind: str
    revision: str
    records: Path
    token: str = field(repr=False)


def send(target: Target, files: Sequence[Path]) -> None:
    """Those of the files that the hub wants in parts; it has them then. Raises what huggingface_hub does, and OSError."""
    for file in files:
        if file.stat().st_size > LARGE_BYTES:
            _File(target, file).send()


class _File:
    def __init__(self, target: Target, path: Path) -> None:
        self._target = target
        self._path = path
        name = target.library.__name__
        self._lfs, self._http, self._errors = (import_module(f"{name}.{module}") for module in ("lfs", "utils", "errors"))
        self._lock = Lock()
        self._about = self._lfs.UploadInfo.from_path(str(path))
        where = f"{target.endpoint} {target.kind} {target.repo} {self._about.sha256.hex()}"
        self._record = Record(target.records / sha256(where.encode()).hexdigest())

    def send(self) -> None:
        for left in reversed(range(PUSH_TRIES)):
            if (self._record.places is None or left < PUSH_TRIES - 1) and not self._ask():
                break
            assert self._record.places is not None
            try:
                self._send_parts(self._record.places)
                self._finish(self._record.places)
                break
            except self._errors.HfHubHTTPError as error:
                if not left or error.response.status_code not in _RUN_OUT:
                    raise
                if error.response.request.method == "POST":  # the hub has forgotten the parts, or they are not what it got
                    self._record.tags.clear()
        self._record.forget()

    def _ask(self) -> bool:
        """Whether the hub wants it in parts: it may have it, or want it in one piece."""
        target = self._target
        where = {"repo_type": target.kind, "repo_id": target.repo, "revision": target.revision, "endpoint": target.endpoint}
        found, errors, _ = self._lfs.post_lfs_batch_info([self._about], token=target.token, **where)
        if errors:
            raise ValueError(f"The hub refuses {self._path.name}: {errors[0]['error']['message']}")
        actions = found[0].get("actions") if found else None
        places = Places.of(actions) if actions else None
        if places is not None:
            self._record.begin(places)
        return places is not None

    def _send_parts(self, places: Places) -> None:
        missing = [number for number in sorted(places.parts) if number not in self._record.tags]
        at_once = max(1, min(PUSH_PARTS_AT_ONCE, PUSH_MEMORY_BYTES // places.part_bytes))
        about = {"total": self._about.size, "initial": (len(places.parts) - len(missing)) * places.part_bytes}
        together = ThreadPoolExecutor(at_once)
        with self._http.tqdm(desc=self._path.name, unit="B", unit_scale=True, **about) as bar:
            try:
                for sent in as_completed([together.submit(self._send_part, places, number) for number in missing]):
                    bar.update(sent.result())
            finally:
                together.shutdown(cancel_futures=True)

    def _send_part(self, places: Places, number: int) -> int:
        """In a thread of its own; how many bytes that were."""
        with self._path.open("rb") as file:
            file.seek((number - 1) * places.part_bytes)
            data = file.read(places.part_bytes)
        answer = self._ask_http("PUT", places.parts[number], content=data)
        with self._lock:
            self._record.came(number, answer.headers["etag"])
        return len(data)

    def _finish(self, places: Places) -> None:
        oid = self._about.sha256.hex()
        parts = [{"partNumber": number, "etag": tag} for number, tag in sorted(self._record.tags.items())]
        self._ask_http("POST", self._at_hub(places.finish), json={"oid": oid, "parts": parts}, headers=_LFS)
        if places.verify is not None:
            url, about = self._at_hub(places.verify), {"oid": oid, "size": self._about.size}
            ours = url.startswith(f"{self._target.endpoint}/")  # a token goes to its hub and nowhere else
            credential = self._http.build_hf_headers(token=self._target.token if ours else False)
            self._ask_http("POST", url, json=about, headers=credential)

    def _at_hub(self, url: str) -> str:
        return str(self._http.fix_hf_endpoint_in_url(url, self._target.endpoint))

    def _ask_http(self, method: str, url: str, **what: Any) -> Any:  # noqa: ANN401  # a response of the library's
        answer = self._http.http_backoff(method, url, max_retries=PUSH_TRIES, timeout=PUSH_SILENCE_S, **what)
        self._http.hf_raise_for_status(answer)
        return answer
