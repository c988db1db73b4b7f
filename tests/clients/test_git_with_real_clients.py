"""git clone with LFS through a real daemon: the hub's commit, and large files from the cluster."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from daemons import MIB, House, Site, noise

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed"),
]

TOKEN = "hf_aliceAliceAlice"
FILES = {
    ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
    "config.json": b"{}",
    "sub/model.safetensors": noise(9, 9 * MIB),
    "sub/deep/vocab.txt": b"hello\n",
}


@pytest.fixture(scope="module")
def site():
    with Site() as site:
        site.hub.add_repo("model", "acme/tiny", FILES)
        site.hub.repo("model", "acme/tiny").tag("v1.0")
        site.hub.add_repo("dataset", "acme/secret", FILES, private=True)
        site.hub.add_user(TOKEN, "alice")
        yield site


def git(home, *words, **environ):
    settings = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_TERMINAL_PROMPT": "0", "NO_PROXY": "*", **environ}
    done = subprocess.run(["git", *words], env=settings, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("repo", ["acme/tiny", "datasets/acme/secret"])
def test_a_clone_has_the_hubs_commit_and_takes_large_files_from_a_peer(site, tmp_path, repo):
    site.hub.reset()
    home = tmp_path / "home"
    home.mkdir()
    git(home, "lfs", "install")
    with House(tmp_path / "house", site) as house:
        one = house.daemon("one")
        two = house.daemon("two", [one])
        if repo == "acme/tiny":
            one.fetch(repo)
        sent = site.sent
        url = two.url.replace("://", f"://alice:{TOKEN}@") if "secret" in repo else two.url
        git(home, "clone", f"{url}/{repo}", str(tmp_path / "clone"))
        assert {path: (tmp_path / "clone" / path).read_bytes() for path in FILES} == FILES
        kind, name = ("dataset", "acme/secret") if "secret" in repo else ("model", "acme/tiny")
        assert git(home, "-C", str(tmp_path / "clone"), "rev-parse", "HEAD") == site.hub.repo(kind, name).head.id
        assert site.sent == (sent if repo == "acme/tiny" else len(FILES["sub/model.safetensors"]))
        assert site.hub.stats()["auth_leaks"] == 0
