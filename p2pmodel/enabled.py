"""`python -m p2pmodel.enabled SCRIPT|-m MODULE …`: a program as it is, its hub clients taking files from the daemon."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from p2pmodel.enabling import enable


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments == ["-m"]:
        sys.exit("usage: python -m p2pmodel.enabled SCRIPT|-m MODULE [ARGUMENT]...")
    enable()
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
