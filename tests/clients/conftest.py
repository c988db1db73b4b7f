"""Unmodified clients, each version in an environment of its own, made once and kept under the user's cache directory."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from matrix.catalogue import CLIENTS
from matrix.environments import MissingError

#: By the names that tests use; the matrix says how each is had. hf_xet is there on purpose: it must find nothing to trigger it.
NAMES = {
    "hub-2": "huggingface_hub 2.4.0",
    "hub-0.36": "huggingface_hub 0.36.2",
    "modelscope": "modelscope 1.40.2",
    "modelscope-1.37": "modelscope 1.37.1",
    "modelscope-1.22": "modelscope 1.22.3",
    "modelscope-1.9": "modelscope 1.9.5",
}
NEEDS = {client.name: client.needs for client in CLIENTS}


class Client:
    """A Python with a client library in it, and a home directory for each run."""

    def __init__(self, python: Path, home: Path) -> None:
        self._python = python
        self._home = home

    def begin(self, url: str, script: str, home: str = "home", **environ: str) -> subprocess.Popen[str]:
        """Start a script against the gateway at `url`. What it leaves in `result` is its answer."""
        folder = self._home / home
        folder.mkdir(exist_ok=True)
        settings = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "HF_HOME": str(folder / "hf"),
            "HF_ENDPOINT": url,
            "MODELSCOPE_ENDPOINT": url,
            "MODELSCOPE_CACHE": str(folder / "ms"),
            "NO_PROXY": "*",
            **environ,
        }
        program = f"import json, pathlib, os\n{script}\nprint('\\n' + json.dumps(result))"
        return subprocess.Popen(
            [self._python, "-c", program], env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, url: str, script: str, **how: str):
        return self.end(self.begin(url, script, **how))

    @staticmethod
    def end(process: subprocess.Popen[str]):
        """What the script left in `result`."""
        try:
            out, err = process.communicate(timeout=50)
        except subprocess.TimeoutExpired:
            process.kill()
            _, err = process.communicate()
            raise AssertionError(f"the client hangs: {err}") from None
        assert process.returncode == 0, err
        return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="session")
def environment():
    """The Python of an environment by name; skips where it cannot be made (no registry)."""

    def python(name: str) -> Path:
        try:
            return Path(NEEDS[NAMES[name]].make()["PROGRAM"])
        except MissingError as error:
            pytest.skip(str(error))

    return python


@pytest.fixture
def client(environment, name, tmp_path):
    """The client that the test's parameter `name` says."""
    return Client(environment(name), tmp_path)
