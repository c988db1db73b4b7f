"""Repos that the operator says are the same on the other hub ([[alias]]), and where a blob of the one lies in the other.

Nothing is guessed: without an alias the other hub is never asked, whatever repo of that name it has, for it may be somebody
else's. And the alias only says where to look: a file counts as the same where the other hub states the same hash for it.
The other hub is asked as a stranger: no client's token is meant for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog
import trio

from p2pmodel.content import Access, Blob, Hub, Repo, Snapshot
from p2pmodel.delivery.ports import Location
from p2pmodel.errors import P2pmodelError
from p2pmodel.limits import TWIN_FRESH_S, TWIN_RETRY_S

log = structlog.get_logger()

Ask = Callable[[Repo, str, Access], Awaitable[Snapshot]]

_BRANCHES: Mapping[Hub, str] = {Hub.HUGGINGFACE: "main", Hub.MODELSCOPE: "master"}


class Twins:
    """`ask` lists a repo at a revision."""

    def __init__(self, aliases: Sequence[tuple[Repo, Repo]], ask: Ask) -> None:
        self._others: defaultdict[Repo, list[Repo]] = defaultdict(list)
        for one, other in aliases:
            self._others[one].append(other)
            self._others[other].append(one)
        self._ask = ask
        self._asking = {repo: trio.Lock() for repo in self._others}
        self._listed: dict[Repo, tuple[float, Snapshot | None]] = {}  # until when it stands

    def of(self, repo: Repo) -> Sequence[Repo]:
        return self._others.get(repo, ())

    async def locations(self, blob: Blob, repos: Sequence[Repo]) -> list[Location]:
        """Where the twins of these repos have this blob, by what their hubs state; none where they cannot be asked."""
        found = []
        for twin in dict.fromkeys(twin for repo in repos for twin in self.of(repo)):
            snapshot = await self._snapshot(twin)
            entries = snapshot.files if snapshot else ()
            found += [
                Location(twin, snapshot.commit, entry.path, Access()) for entry in entries if snapshot and entry.blob == blob
            ][:1]
        return found

    async def _snapshot(self, repo: Repo) -> Snapshot | None:
        async with self._asking[repo]:
            until, snapshot = self._listed.get(repo, (0.0, None))
            if until > trio.current_time():
                return snapshot
            try:
                snapshot, lasts_s = await self._ask(repo, _BRANCHES[repo.hub], Access()), TWIN_FRESH_S
            except P2pmodelError as error:
                log.info("twin_unavailable", hub=str(repo.hub), reason=type(error).__name__)
                snapshot, lasts_s = None, TWIN_RETRY_S
            self._listed[repo] = (trio.current_time() + lasts_s, snapshot)
            return snapshot
