"""What a program that imports p2pmodel is told of its types, by mypy, with the package installed beside it."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import p2pmodel

pytest.importorskip("mypy")
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

GOOD = """
import p2pmodel

path: str = p2pmodel.snapshot_download("org/model", hub="modelscope", allow_patterns=["*.json"], local_dir="here")
peers: int = p2pmodel.status().peers
ends: list[str] = [node.state for node in p2pmodel.warm("org/model", nodes="all", wait=False)]
found: bool = p2pmodel.enable()
try:
    p2pmodel.status()
except p2pmodel.P2pmodelError as error:
    step: str = error.next_step
"""
BAD = """
import p2pmodel

p2pmodel.snapshot_download("org/model", hub="nowhere")
path: int = p2pmodel.snapshot_download("org/model")
p2pmodel.warm()
p2pmodel.no_such_thing
"""


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """mypy over a program, as in an environment in which p2pmodel is installed: nothing of this tree is on its path."""
    folder = tmp_path_factory.mktemp("typed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    installed = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env"), "platbase": str(folder / "env")}))
    for package in (Path(p2pmodel.__file__).parent, Path(sysconfig.get_path("purelib")) / "msgspec"):
        (installed / package.name).symlink_to(package)

    def run(program):
        (folder / "program.py").write_text(program)
        command = [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--python-executable",
            str(folder / "env/bin/python"),
            "program.py",
        ]
        done = subprocess.run(command, cwd=folder, env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=False)
        return [line for line in done.stdout.splitlines() if line.startswith("program.py:")]

    return run


def test_a_right_program_is_right(check):
    assert check(GOOD) == []


def test_every_wrong_line_is_wrong(check):
    assert [int(line.split(":")[1]) for line in check(BAD) if ": error:" in line] == [4, 5, 6, 7]
