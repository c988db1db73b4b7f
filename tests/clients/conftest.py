"""Unmodified clients, each version in an environment of its own, made once and kept under the user's cache directory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: What each environment holds. hf_xet is there on purpose: it must find nothing to trigger it.
ENVIRONMENTS = {
    "hub-2": ("huggingface_hub==2.4.0", "hf_xet==1.8.0"),
    "hub-0.36": ("huggingface_hub==0.36.2", "hf_xet==1.8.0"),
    "modelscope": ("modelscope==1.40.2",),
    "modelscope-1.37": ("modelscope==1.37.1",),
    "modelscope-1.22": ("modelscope==1.22.3",),
    "modelscope-1.9": ("modelscope==1.9.5",),
}
_SETUP_S = 300


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
        wanted = ENVIRONMENTS[name]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = cache / "p2pmodel-tests" / f"{sys.version_info.major}.{sys.version_info.minor}-{'-'.join(wanted)}"
        found = folder / "bin/python"
        if not (folder / "ready").exists():
            quiet = {"capture_output": True, "text": True, "timeout": _SETUP_S}
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, **quiet)
            made = subprocess.run(
                [found, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted], check=False, **quiet
            )
            if made.returncode:
                pytest.skip(f"{' '.join(wanted)} cannot be installed here: {made.stderr.strip()[-300:]}")
            (folder / "ready").touch()
        return found

    return python


@pytest.fixture
def client(environment, name, tmp_path):
    """The client that the test's parameter `name` says."""
    return Client(environment(name), tmp_path)
