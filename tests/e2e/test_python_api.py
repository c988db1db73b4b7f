"""`import p2pmodel` in a program: snapshots, status, and hub clients that take files by link."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from daemons import MIB, files_in
from noise import noise

FILES = {"config.json": b"{}", "deep/w.bin": noise(61, 5 * MIB)}

#: The part of a hub client that is wrapped, as its several versions have it.
CLIENTS = {
    "huggingface_hub/__init__.py": "",
    "huggingface_hub/file_download.py": """
import os
ENDPOINT = os.environ["HF_ENDPOINT"]
def _download_to_tmp_and_move(incomplete_path, destination_path, url_to_download, headers, expected_size, filename,
                              force_download, etag, xet_file_data=None):
    destination_path.write_text("by HTTP")
""",
    "modelscope/__init__.py": "",
    "modelscope/hub/__init__.py": "",
    "modelscope/hub/file_download.py": """
import os
ENDPOINT = os.environ["MODELSCOPE_ENDPOINT"]
def http_get_model_file(url, local_dir, file_name, file_size, cookies, headers=None):
    open(os.path.join(local_dir, file_name), "w").write("by HTTP")
""",
}
HUGGINGFACE = """
from pathlib import Path
from huggingface_hub import file_download as client
target = Path(sys.argv[1])
url = f"{client.ENDPOINT}/acme/api/resolve/main/deep/w.bin"
client._download_to_tmp_and_move(Path("unused"), target, url, {}, int(sys.argv[2]), "w.bin", False, None)
result = target.stat().st_nlink
"""
MODELSCOPE = """
from pathlib import Path
from modelscope.hub import file_download as client
target = Path(sys.argv[1])
url = f"{client.ENDPOINT}/api/v1/models/acme/api/repo?Revision=master&FilePath=deep/w.bin"
client.http_get_model_file(url, str(target.parent), target.name, int(sys.argv[2]), None)
result = target.stat().st_nlink
"""


@pytest.fixture(scope="module")
def node(site, house):
    site.hub.add_repo("model", "acme/api", FILES)
    return house.daemon("one")


@pytest.fixture(scope="module")
def python(house, node, tmp_path_factory):
    """Runs a program beside stand-ins of the clients; what it leaves in `result`."""
    clients = tmp_path_factory.mktemp("clients")
    for name, source in CLIENTS.items():
        (clients / name).parent.mkdir(parents=True, exist_ok=True)
        (clients / name).write_text(source)
    path = os.pathsep.join([str(clients), *sys.path])

    def run(script, *arguments, **environ):
        program = f"import json, sys\n{script}\nprint(json.dumps(result))"
        settings = {"PYTHONPATH": path, "P2PMODEL_NODE__STATE_DIR": str(node.state), **environ}
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            env=house.user.environ | settings,
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_snapshot_and_the_status_by_python(python, tmp_path):
    script = """
import p2pmodel
path = p2pmodel.snapshot_download("acme/api")
copy = p2pmodel.snapshot_download("acme/api", allow_patterns="*.json", local_dir=sys.argv[1])
result = [path, copy, p2pmodel.status().store.bytes]
try:
    p2pmodel.snapshot_download("acme/none")
except p2pmodel.P2pmodelError as error:
    result.append(type(error).__name__)
"""
    path, copy, held, failure = python(script, tmp_path / "copy")
    assert files_in(path) == FILES
    assert (files_in(copy), Path(copy)) == ({"config.json": b"{}"}, tmp_path / "copy")
    assert held == sum(map(len, FILES.values()))
    assert failure == "NotFoundError"


@pytest.mark.parametrize(("client", "how"), [(HUGGINGFACE, "call"), (MODELSCOPE, "environment")])
def test_an_enabled_client_gets_a_link(python, tmp_path, client, how):
    target, size = tmp_path / "w.bin", 5 * MIB
    enable = "import p2pmodel\nassert p2pmodel.enable()" if how == "call" else "import p2pmodel"
    links = python(f"{enable}\n{client}", target, size, **({"P2PMODEL_ENABLE": "1"} if how == "environment" else {}))
    assert target.read_bytes() == FILES["deep/w.bin"]
    assert links > 1


@pytest.mark.parametrize(("size", "extra"), [(7, {}), (5 * MIB, {"HF_ENDPOINT": "http://elsewhere.example"})])
def test_what_cannot_be_linked_is_left_to_the_client(python, tmp_path, size, extra):
    target = tmp_path / "w.bin"
    python(f"import p2pmodel; p2pmodel.enable()\n{HUGGINGFACE}", target, size, **extra)
    assert target.read_text() == "by HTTP"


def test_without_a_daemon_nothing_changes(python, tmp_path):
    where = {"P2PMODEL_NODE__STATE_DIR": str(tmp_path / "none"), "HF_ENDPOINT": "http://hub.example"}
    target = tmp_path / "w.bin"
    assert python(f"import p2pmodel\nassert not p2pmodel.enable()\n{HUGGINGFACE}", target, 5 * MIB, **where) == 1
    assert target.read_text() == "by HTTP"


@pytest.fixture
def program(tmp_path):
    """A program that knows nothing of us, as a file and as a module."""
    (tmp_path / "beside.py").write_text("NAME = 'beside'")
    (tmp_path / "train.py").write_text(
        f"import json, sys\nfrom beside import NAME\n{HUGGINGFACE}\n"
        "print(json.dumps([result, NAME, __name__, sys.argv[0].endswith('train.py'), sys.argv[3:]]))"
    )
    return tmp_path / "train.py"


def enabled(house, node, program, *arguments):
    """`python -m p2pmodel.enabled` in another directory than the program's."""
    path = os.pathsep.join([str(house.folder / "enabled"), *sys.path, str(program.parent)])
    for name, source in CLIENTS.items():
        (house.folder / "enabled" / name).parent.mkdir(parents=True, exist_ok=True)
        (house.folder / "enabled" / name).write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "p2pmodel.enabled", *map(str, arguments)],
        env=house.user.environ | {"PYTHONPATH": path, "P2PMODEL_NODE__STATE_DIR": str(node.state)},
        cwd=house.folder,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


@pytest.mark.parametrize("named", ["file", "module"])
def test_a_program_is_run_as_it_is_and_its_clients_get_links(house, node, program, tmp_path, named):
    target = tmp_path / "w.bin"
    how = (program,) if named == "file" else ("-m", "train")
    done = enabled(house, node, program, *how, target, 5 * MIB, "--its", "own arguments")
    assert done.returncode == 0, done.stderr
    links, *rest = json.loads(done.stdout)
    assert (links > 1, *rest) == (True, "beside", "__main__", True, ["--its", "own arguments"])
    assert target.read_bytes() == FILES["deep/w.bin"]


def test_a_programs_own_end_is_the_commands(house, node, program):
    program.write_text("import sys; print(sys.argv[1:]); sys.exit(7)")
    done = enabled(house, node, program, program, "-x")
    assert (done.returncode, done.stdout) == (7, "['-x']\n")
    for arguments in ((), ("-m",)):
        done = enabled(house, node, program, *arguments)
        assert (done.returncode, "usage: python -m p2pmodel.enabled" in done.stderr) == (1, True)


def test_the_import_is_light():
    """`--help` and every program pay for it."""
    script = (
        "import sys, p2pmodel; print(*(m for m in ('trio', 'msgspec', 'click', 'cryptography', 'ssl') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
