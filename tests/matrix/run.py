"""A client in front of real daemons: it runs its operations cold, from a peer, and with the hub gone; every answer is compared.

Node one meets each repo cold. Node two is linked to it, and the hub may send it nothing but a probe. Then the hub goes.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from daemons import Daemon, House, Site

from matrix.catalogue import Client
from matrix.operations import OPERATIONS, TOKEN, Operation, State
from p2pmodel.peering.membership import new_join_token

SCRIPTS: Final = Path(__file__).with_name("operations")
_PATIENCE_S: Final = 120.0
_QUOTED: Final = 600
_NO_SUCH_CALL: Final = "no such call"  # what a script says where its version has none


@dataclass(frozen=True, slots=True)
class Cell:
    """What came of one operation in one state; `fault` is empty if all was as it must be."""

    operation: str
    state: State
    fault: str
    seconds: float


class Stage:
    """A hub of its own for one client, with the repos of all its operations."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self._operations = [OPERATIONS[name] for name in client.operations]
        self._site = Site()
        self._site.hub.add_user(TOKEN, "alice")
        self._expected = {one.name: one.furnish(self._site.hub, one.repo) for one in self._operations}

    def run(self) -> Iterator[Cell]:
        """Every cell. Raises MissingError if the client cannot be had here."""
        made = self._client.needs.make()
        key = self._folder / "key"
        key.touch(0o600)
        key.write_text(f"{new_join_token()}\n")
        settings = {"gateway.tls_listen": "localhost:0", "cluster.key_file": str(key), **self._client.settings}
        with self._site as site, House(self._folder / "house", site, settings) as house:
            one = house.daemon("one")
            yield from self._state("cold", one, made)
            two = house.daemon("two", [one])
            yield from self._state("peer", two, made)
            site.down()
            yield from self._state("gone", two, made)

    def _state(self, state: State, node: Daemon, made: Mapping[str, str]) -> Iterator[Cell]:
        environ = what_env_sets(node) | made
        for operation in self._operations:
            if state in operation.states and state not in self._client.hopeless(operation.name):
                begun = time.monotonic()
                fault = self._fault(operation, state, environ)
                yield Cell(operation.name, state, fault, time.monotonic() - begun)

    def _fault(self, operation: Operation, state: State, environ: Mapping[str, str]) -> str:
        before = self._site.sent
        fault = self._ask(operation, state, environ)
        sent = self._site.sent - before
        if not fault and state == "peer" and sent > operation.hub_bytes_max:
            return f"the hub sent {sent} bytes that a peer has"
        return fault

    def _ask(self, operation: Operation, state: State, environ: Mapping[str, str]) -> str:
        home = self._folder / state / operation.name
        home.mkdir(parents=True)
        about = {"HOME": str(home), "STATE": state, "REPO": operation.repo, "COMMIT": self._commit(operation)}
        settings = {**environ, **about, **operation.environ}
        process = subprocess.Popen(
            [settings.pop("PROGRAM"), str(SCRIPTS / operation.script)],
            cwd=home,
            env=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            said, _ = process.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            return f"it hangs: {said[-_QUOTED:]}"
        if process.returncode:
            return f"it ends with {process.returncode}: {said[-_QUOTED:]}"
        return difference(json.loads(said.splitlines()[-1]), self._expected[operation.name])

    def _commit(self, operation: Operation) -> str:
        try:
            return self._site.hub.repo("model", operation.repo).head.id
        except KeyError:  # no model, or not yet there
            return ""


def what_env_sets(node: Daemon) -> dict[str, str]:
    """What `eval "$(p2pmodel env)"` does for a user's programs: nothing else leads them to the daemon."""
    said = node.command("env")
    assert said.code == 0, said.err
    shell = ["sh", "-c", f"{said.out}\nexec env -0"]
    sets = subprocess.run(shell, env={}, check=True, capture_output=True, text=True).stdout
    given = dict(line.split("=", 1) for line in sets.split("\0") if line)
    return given | {"URL": node.url, "PYTHONPATH": str(SCRIPTS), "PYTHONDONTWRITEBYTECODE": "1"}


def difference(seen: Any, expected: Any) -> str:
    """The first thing that is not as it must be."""
    if seen in (expected, _NO_SUCH_CALL):
        return ""
    if not isinstance(seen, dict) or not isinstance(expected, dict):
        return f"saw {str(seen)[:300]}, not {str(expected)[:300]}"
    for name in [*expected, *seen]:
        if said := difference(seen.get(name), expected.get(name)):
            return f"{name}: {said}"
    return ""


def fault_of(client: Client, cell: Cell) -> str:
    """What of a cell is not as the catalogue says; a limit that is none any more is a fault too."""
    if client.limit(cell.operation, cell.state) is None:
        return cell.fault
    return "" if cell.fault else "it works: its limit in the catalogue is out of date"
