"""docs/clients.md: what was seen, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from matrix.catalogue import CLIENTS, Client
from matrix.environments import Npm, Pip
from matrix.operations import OPERATIONS, STATES
from matrix.run import Cell, fault_of

PAGE: Final = Path(__file__).parents[2] / "docs/clients.md"

_HEAD: Final = """\
# Which clients work

Unmodified clients from the public registries, each in an environment of its own, against two real daemons and a hub on
loopback: `make matrix` runs them all and writes this page. Every file is compared by its sha256, every listing, range and
error with what the hub holds. Three marks stand for three states, in this order:

1. **cold**: the first node has never heard of the repo;
2. **at a peer**: a second node of the same cluster, which the first one tells; the hub may send no byte of a file to it,
   whole or in ranges, but for ModelScope's probes (one byte for each listing) and the proof that its user may read a private
   file (64 KiB of it);
3. **hub gone**: the second node, with the hub switched off.

`✓` it was so. `·` does not apply: what is missing and who may read what is private only the hub can tell. `✗` it cannot
be; the number leads to the reason and the way round. An empty cell: this version has no such call.

What each version needs to be told is in [huggingface.md](huggingface.md) and [modelscope.md](modelscope.md); here all had what
`eval "$(p2pmodel env)"` sets and nothing else, modelscope with `gateway.tls_listen`, `by Xet` with `gateway.xet = "all"`.
"""


def page(found: Mapping[Client, Sequence[Cell]]) -> str:
    notes: list[str] = []
    parts = [_HEAD]
    single = [client for client in found if _alone(client)]
    for family in dict.fromkeys(client.family for client in found if not _alone(client)):
        columns = {client: cells for client, cells in found.items() if client.family == family}
        parts.append(_family(family, columns, notes))
    parts.append("## Others\n")
    lines = [
        (client.name, OPERATIONS[name].title, _mark(client, found[client], name, notes))
        for client in single
        for name in client.operations
    ]
    parts.append(_table(("client", "what", "seen"), lines))
    if notes:
        parts.append("## What is not green\n")
        parts.append("\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1)) + "\n")
    parts.append("## How they were installed\n")
    parts.append(_table(("client", "packages"), [(client.name, _packages(client)) for client in found]))
    return "\n".join(parts)


def promised(client: Client) -> list[Cell]:
    """What the catalogue says that will be seen."""
    return [
        Cell(name, state, "as the catalogue says" if client.limit(name, state) else "", 0.0)
        for name in client.operations
        for state in OPERATIONS[name].states
    ]


def _alone(client: Client) -> bool:
    return sum(other.family == client.family for other in CLIENTS) == 1


def _family(family: str, columns: Mapping[Client, Sequence[Cell]], notes: list[str]) -> str:
    names = [name for name in OPERATIONS if any(name in client.operations for client in columns)]
    lines = [
        (OPERATIONS[name].title, *(_mark(client, cells, name, notes) for client, cells in columns.items())) for name in names
    ]
    return f"## {family}\n\n" + _table(("", *(client.version for client in columns)), lines)


def _mark(client: Client, cells: Iterable[Cell], name: str, notes: list[str]) -> str:
    if name not in client.operations:
        return ""
    bad = {cell.state for cell in cells if cell.operation == name and (cell.fault or fault_of(client, cell))}
    bad.update(client.hopeless(name))
    marks = "".join("✗" if state in bad else "✓" if state in OPERATIONS[name].states else "·" for state in STATES)
    limit = client.limits.get(name)
    if limit is None:
        return marks
    note = f"{limit.why} Way round: {limit.way_round}"
    if note not in notes:
        notes.append(note)
    return f"{marks} {notes.index(note) + 1}"


def _packages(client: Client) -> str:
    match client.needs:
        case Pip(packages, bare):
            return f"`pip install {' '.join(packages)}`" + (f", `pip install --no-deps {' '.join(bare)}`" if bare else "")
        case Npm(packages):
            return f"`npm install {' '.join(packages)}`"
        case programs:
            return (
                ", ".join(programs.names) + " of the system" if programs.names else "no program: what it sends was written down"
            )


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)
