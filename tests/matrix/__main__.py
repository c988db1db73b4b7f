"""`python -m matrix [PART …]`: run the clients whose names hold one of the parts; without any, all, and write the page."""

from __future__ import annotations

import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from matrix.catalogue import CLIENTS, Client
from matrix.environments import MissingError
from matrix.page import PAGE, page
from matrix.run import Cell, Stage, fault_of


def run(client: Client) -> list[Cell]:
    """In a process of its own. Nothing if the client cannot be had here."""
    cells = []
    with tempfile.TemporaryDirectory(prefix="p2pmodel-matrix-", ignore_cleanup_errors=True) as folder:
        try:
            for cell in Stage(client, Path(folder)).run():
                said = fault_of(client, cell) or "ok"
                print(f"{client.name:30} {cell.operation:16} {cell.state:5} {cell.seconds:6.1f} s  {said}", flush=True)
                cells.append(cell)
        except MissingError as error:
            print(f"{client.name:30} cannot be had here: {error}", flush=True)
    return cells


def main(parts: list[str]) -> int:
    chosen = [client for client in CLIENTS if not parts or any(part in client.name for part in parts)]
    with ProcessPoolExecutor(max(2, (os.cpu_count() or 1) // 2)) as together:
        found = dict(zip(chosen, together.map(run, chosen), strict=True))
    bad = [client for client, cells in found.items() if not cells or any(fault_of(client, cell) for cell in cells)]
    for client in bad:
        print(f"not as it must be: {client.name}")
    if not parts and all(found.values()):
        PAGE.write_text(page(found))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
