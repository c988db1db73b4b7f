"""What the audience of the demo sees: bars on a terminal, lines elsewhere, then one table on stdout."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Final, Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from p2pmodel.demo.nodes import Step

_MB: Final = 1e6


class Stage:
    """Progress goes to stderr while the context is open; `show` puts the result on stdout."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        columns = (TextColumn("  {task.description}"), BarColumn(30), TextColumn("{task.fields[words]}"))
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._bars: dict[tuple[str, int], TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def say(self, sentence: str) -> None:
        self._console.print(f"{sentence}.")

    def progress(self, repo: str, node: int, step: Step, seconds: float) -> None:
        """A step of one node's fetch, so long after its begin."""
        model = repo.rpartition("/")[2]
        bar = self._bars.get((repo, node))
        if bar is None:
            bar = self._bars[repo, node] = self._progress.add_task(f"{model}, node {node}", words="")
        words = f"{_split(step)}, {seconds:.1f} s"
        done = step.bytes if step.path else step.here + step.peers + step.upstream
        self._progress.update(bar, total=step.bytes or None, completed=done, words=words)
        if step.path and not self._console.is_terminal:
            self._console.print(f"  {model}, node {node}: {words}")

    def show(self, outcome: dict[str, Any], *, as_json: bool) -> None:
        """The table of bytes by source and the promises, or all of it as one JSON document."""
        if as_json:
            print(json.dumps(outcome, indent=2))
            return
        console = Console(highlight=False)
        console.print(_table(outcome))
        for promise in outcome["promises"]:
            kept = "[green]kept[/]  " if promise["kept"] else "[bold red]BROKEN[/]"
            console.print(f"{kept}  {promise['promise']}.", soft_wrap=True)
        console.print(f"All in {outcome['seconds']:.0f} s.")


def _split(step: Step) -> str:
    return f"here {_mb(step.here)}, peers {_mb(step.peers)}, hub {_mb(step.upstream)} MB"


def _mb(count: int) -> str:
    return f"{count / _MB:.1f}"


def _table(outcome: dict[str, Any]) -> Table:
    table = Table(title="Bytes by source, in MB", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("Model", no_wrap=True)
    for heading in ("Node", "Here", "Peers", "Hub", "Seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for hub in outcome["hub"]:
        rows = [row for row in outcome["fetches"] if row["repo"] == hub["repo"]]
        for row in rows:
            name = hub["repo"].rpartition("/")[2] if row is rows[0] else ""
            amounts = [_mb(row[source]) for source in ("here", "peers", "hub")]
            table.add_row(name, str(row["node"]), *amounts, f"{row['seconds']:.1f}")
        total = f"{_mb(hub['sent'])} = {hub['ratio']:.2f} × {_mb(hub['model'])}"
        table.add_row("the hub's own counter", "", "", "", total, "", end_section=True, style="bold")
    return table
