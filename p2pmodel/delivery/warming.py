"""Bringing a snapshot in on many nodes: each does its own work, and one may watch them all.

`Warming` is a node's own part: it begins work that a user here or a member of the cluster asks for, and goes on with it
whether or not anybody watches. `watch` asks the chosen nodes, this one among them, once a second how far they are.
Members of a closed cluster only, for a stranger could fill our disk; public repos only, for no token ever crosses.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import trio

from p2pmodel.content import Access, Hub, NodeId, Repo, RepoKind
from p2pmodel.delivery.catalog import Catalog
from p2pmodel.delivery.ports import Neighbours, NodeWarm, Progress, Selection, Surroundings, WarmStep
from p2pmodel.delivery.tasks import Tasks
from p2pmodel.errors import ConfigError, NotAuthorisedError, P2pmodelError, SourceBusyError, SourceError, UnavailableError
from p2pmodel.limits import WARM_MISSED_MAX, WARM_POLL_S, WARMS_AT_ONCE_MAX, WARMS_KEPT_MAX
from p2pmodel.wire.messages import AskWarm, Message, Problem, WarmProgress

WARM: Final = "warm"  # the ability
HERE: Final = "here"  # what a user calls this node
_NUMBER_DIGITS_MAX: Final = 3  # more is the beginning of a node id
_PREFIX_MIN: Final = 4
_TEXT_MAX: Final = 500

State = Literal["running", "done", "failed"]
Fetch = Callable[[Repo, str, Selection], AbstractAsyncContextManager[AsyncIterator[Progress]]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be brought in. Equal wishes are one work."""

    repo: Repo
    revision: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(slots=True)
class _Work:
    """One wish at work here."""

    state: State = "running"
    progress: Progress | None = None
    text: str = ""


class Warming:
    """`fetch` brings a snapshot here at the lowest urgency. `run` owns the work."""

    def __init__(self, around: Surroundings, catalog: Catalog, fetch: Fetch) -> None:
        self._around = around
        self._catalog = catalog
        self._fetch = fetch
        self._works: dict[Wish, _Work] = {}
        self._tasks = Tasks()
        self.run = self._tasks.run

    # This node's part

    def answer(self, question: AskWarm) -> Message:
        """To a peer."""
        if not self._around.closed:
            return Problem(request=question.request, code="refused", text="only members of a closed cluster may ask for that")
        try:
            repo = Repo(Hub(question.hub), RepoKind(question.kind), question.name)
        except ValueError:
            return Problem(request=question.request, code="bad_request")
        wish = Wish(repo, question.revision, tuple(question.include), tuple(question.exclude))
        try:
            work = self._begin(wish) if question.begin else self._works.get(wish)
        except (SourceBusyError, UnavailableError) as error:
            return Problem(request=question.request, code="busy", text=str(error))
        if work is None:
            return Problem(request=question.request, code="not_held")
        return _tell(work, question.request)

    def _begin(self, wish: Wish) -> _Work:
        """The work, begun unless it is under way. Raises SourceBusyError, UnavailableError."""
        work = self._works.get(wish)
        if work is not None and work.state == "running":
            return work
        if sum(work.state == "running" for work in self._works.values()) >= WARMS_AT_ONCE_MAX:
            raise SourceBusyError(f"{WARMS_AT_ONCE_MAX} snapshots are being brought in here already")
        self._works.pop(wish, None)
        work = self._works[wish] = _Work()
        self._forget_the_oldest()
        self._tasks.start(self._bring, wish, work)
        return work

    def _forget_the_oldest(self) -> None:
        ended = [wish for wish, work in self._works.items() if work.state != "running"]
        for wish in ended[: max(0, len(ended) - WARMS_KEPT_MAX)]:
            del self._works[wish]

    async def _bring(self, wish: Wish, work: _Work) -> None:
        try:
            await self._check_public(wish)
            async with self._fetch(wish.repo, wish.revision, Selection((), wish.include, wish.exclude)) as steps:
                async for work.progress in steps:
                    pass
            work.state = "done"
        except P2pmodelError as error:
            work.state, work.text = "failed", _sayable(f"{error} {error.next_step}")

    async def _check_public(self, wish: Wish) -> str:
        """The commit. Raises NotAuthorisedError for what the hub does not give to everybody."""
        snapshot = await self._catalog.snapshot(wish.repo, wish.revision, Access())
        if not snapshot.public:
            raise NotAuthorisedError(
                f"{wish.repo} is not public, and no token ever goes to another node.",
                next_step="Fetch it on each node with that node's own token.",
            )
        return snapshot.commit

    # All nodes

    async def watch(self, wish: Wish, nodes: str) -> AsyncGenerator[WarmStep, None]:
        """Ask the nodes that `nodes` names, and tell how far they are until all have ended. Leaving it stops nobody.
        Raises ConfigError for nodes that cannot be asked, and what the hub says of the repo."""
        asked = _choose(nodes, self._around.neighbours)
        if not self._around.closed and asked != [None]:
            raise ConfigError(
                "Only in a closed cluster may a node ask others to bring a model in: here a stranger could fill their disks.",
                next_step="Make one with `p2pmodel cluster init`, or warm this node alone with `--nodes here`.",
            )
        commit = await self._check_public(wish)
        watched = [_Watched(peer, self._around.neighbours.address(peer) if peer else "") for peer in asked]
        while True:
            async with trio.open_nursery() as nursery:
                for each in watched:
                    if not each.over:
                        nursery.start_soon(self._look, each, wish)
            over = all(each.over for each in watched)
            yield WarmStep(commit, tuple(each.shown for each in watched), over=over)
            if over:
                return
            await trio.sleep(WARM_POLL_S)

    async def _look(self, watched: _Watched, wish: Wish) -> None:
        """How far one node is now."""
        try:
            if watched.peer is None:
                work = self._works.get(wish) if watched.begun else self._begin(wish)
                watched.heard(_tell(work or _Work("failed", text="It was given up."), 1))
            else:
                watched.heard(await self._ask(watched.peer, wish, begin=not watched.begun))
        except SourceError as error:
            watched.missed(str(error))

    async def _ask(self, peer: NodeId, wish: Wish, *, begin: bool) -> WarmProgress:
        if not self._around.neighbours.able(peer, WARM):
            raise SourceError("no link to it, or it cannot be asked for that (an older p2pmodel, or an open cluster)")
        question = AskWarm(
            request=1,
            hub=wish.repo.hub,
            kind=wish.repo.kind,
            name=wish.repo.name,
            revision=wish.revision,
            include=list(wish.include),
            exclude=list(wish.exclude),
            begin=begin,
        )
        [answer] = await self._around.neighbours.ask(peer, question)
        if not isinstance(answer, WarmProgress):
            raise SourceError("the peer answered something else")
        return answer


@dataclass(slots=True)
class _Watched:
    """One of the nodes; `peer` is None for this one."""

    peer: NodeId | None
    address: str
    begun: bool = False
    shown: NodeWarm = field(init=False)
    _missed: int = 0

    def __post_init__(self) -> None:
        self.shown = NodeWarm(self.peer or HERE, self.address)

    @property
    def over(self) -> bool:
        return self.shown.state in {"done", "failed", "lost"}

    def heard(self, told: WarmProgress) -> None:
        self.begun, self._missed = True, 0
        self.shown = NodeWarm(
            self.shown.node,
            self.address,
            state=told.state if told.state in {"done", "failed"} else "running",
            commit=told.commit,
            files=told.files,
            files_done=told.files_done,
            bytes=told.bytes,
            here=told.here,
            peers=told.peers,
            upstream=told.upstream,
            rate=told.rate,
            text=told.text,
        )

    def missed(self, why: str) -> None:
        """It did not answer: one that never began has failed, one that had begun may go on without us."""
        self._missed += 1
        if not self.begun:
            self.shown = replace(self.shown, state="failed", text=why)
        elif self._missed >= WARM_MISSED_MAX:
            self.shown = replace(self.shown, state="lost", text=why, rate=0.0)


def _sayable(text: str) -> str:
    """What a frame can hold: an error may quote whatever name or revision somebody asked for."""
    return "".join(char if char.isprintable() else "?" for char in text.strip())[:_TEXT_MAX]


def _tell(work: _Work, request: int) -> WarmProgress:
    told = WarmProgress(request=request, state=work.state, text=work.text)
    progress = work.progress
    if progress is None:
        return told
    return WarmProgress(
        request=request,
        state=work.state,
        text=work.text,
        commit=progress.commit,
        files=progress.files,
        files_done=progress.files_done,
        bytes=progress.bytes,
        here=progress.here,
        peers=progress.peers,
        upstream=progress.upstream,
        rate=progress.rate,
    )


def _choose(nodes: str, neighbours: Neighbours) -> list[NodeId | None]:
    """ "all", a number of nodes, or names between commas: the first digits of a node id, an address, or "here". This node is
    None and comes first. Raises ConfigError."""
    linked: Sequence[NodeId] = sorted(neighbours.linked())
    if nodes == "all":
        return [None, *linked]
    if nodes.isdecimal() and len(nodes) <= _NUMBER_DIGITS_MAX:
        if not 1 <= int(nodes) <= len(linked) + 1:
            raise ConfigError(f"{nodes} nodes were asked for, and {len(linked) + 1} are here.")
        return [None, *linked[: int(nodes) - 1]]
    named = {_named(name.strip(), linked, neighbours) for name in nodes.split(",")}
    return sorted(named, key=lambda node: node or "")


def _named(name: str, linked: Sequence[NodeId], neighbours: Neighbours) -> NodeId | None:
    if name == HERE:
        return None
    found = [
        peer
        for peer in linked
        if (len(name) >= _PREFIX_MIN and peer.startswith(name)) or name in _addresses(neighbours.address(peer))
    ]
    if len(found) != 1:
        raise ConfigError(
            f"{len(found) or 'No'} linked {'nodes go' if found else 'node goes'} by the name {name!r}.",
            next_step="`p2pmodel peers` lists their ids and addresses.",
        )
    return found[0]


def _addresses(address: str) -> set[str]:
    return {address, address.rpartition(":")[0].strip("[]")}
