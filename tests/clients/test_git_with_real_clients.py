"""git clone and git push with LFS through a real daemon: the hub's commits, and large files from the cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from daemons import MIB, House, Site
from noise import noise

from p2pmodel.limits import DISCLOSURE_BYTES

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed"),
]

TOKEN = "hf_aliceAliceAlice"
LOOKS = 3 * DISCLOSURE_BYTES  # whether the hub gives each file to strangers
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


def tried(home, *words):
    settings = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_TERMINAL_PROMPT": "0", "NO_PROXY": "*"}
    names = {f"GIT_{who}_{what}": "alice@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", *map(str, words)]
    return subprocess.run(command, env=settings | names, capture_output=True, text=True, timeout=60, check=False)


def git(home, *words):
    done = tried(home, *words)
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


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    git(home, "lfs", "install")
    return home


@pytest.fixture
def clone(site, home, tmp_path):
    """Of an empty repo of alice's own, through node `one`, with files of its own added and not pushed."""
    name = f"alice/{tmp_path.name}"
    site.hub.add_repo("model", name, {".gitattributes": FILES[".gitattributes"], "README.md": b"# Pushed\n" * 20})
    with House(tmp_path / "house", site) as house:
        one = house.daemon("one")
        two = house.daemon("two", [one])
        url = one.url.replace("://", f"://alice:{TOKEN}@")
        git(home, "clone", f"{url}/{name}", tmp_path / "clone")
        yield Clone(home, tmp_path / "clone", site.hub.repo("model", name), one, two)
    assert TOKEN not in one.log


class Clone:
    def __init__(self, home, folder, repo, one, two):
        self.home, self.folder, self.repo, self.one, self.two = home, folder, repo, one, two

    def git(self, *words):
        return git(self.home, "-C", self.folder, *words)

    def commit(self, contents):
        for path, data in contents.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(data)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "more")
        return self.git("rev-parse", "HEAD")


NEW = {"sub/a.safetensors": noise(19, 9 * MIB), "b.safetensors": noise(20, 5 * MIB), "notes.txt": b"by git\n"}


def test_what_was_pushed_is_at_a_second_node_without_a_byte_of_its_large_files_from_the_hub(site, clone):
    site.hub.reset()
    head = clone.commit(NEW)
    clone.git("push", "origin", "HEAD:main")
    assert clone.repo.head.id == head
    assert {path: clone.repo.head.files[path].content.body for path in NEW} == NEW
    fetched = clone.two.fetch(clone.repo.name)
    assert {path: Path(fetched["path"], path).read_bytes() for path in NEW} == NEW
    assert site.sent < 1000 + LOOKS  # what git packed: README.md, notes.txt, .gitattributes
    assert site.hub.stats()["auth_leaks"] == 0
    again = clone.commit({"notes.txt": b"by git, again\n", "b.safetensors": b"smaller"})  # a delta against what was pushed
    clone.git("push", "origin", "HEAD:main", "HEAD:refs/heads/side", "HEAD:refs/tags/v2")
    assert (clone.repo.branches["side"], clone.repo.tags["v2"]) == (again, again)
    assert clone.one.fetch(clone.repo.name)["commit"] == again


def test_what_the_hub_refuses_of_a_push_git_says(clone):
    clone.commit({"large.txt": noise(21, 2 * MIB)})
    done = tried(clone.home, "-C", clone.folder, "push", "origin", "HEAD:main")
    assert done.returncode != 0
    assert "what is large or binary belongs into LFS" in done.stderr
    strangers = clone.one.url.replace("://", "://bob:hf_wrong@")
    done = tried(clone.home, "-C", clone.folder, "push", f"{strangers}/{clone.repo.name}", "HEAD:main")
    assert done.returncode != 0
    assert "uthentication failed" in done.stderr


def test_with_the_hub_gone_git_says_so_at_once(site, clone):
    clone.commit(NEW)
    site.down()
    try:
        for words in (["push", "origin", "HEAD:main"], ["fetch", "origin"]):
            done = tried(clone.home, "-C", clone.folder, *words)
            assert done.returncode != 0
            assert "`p2pmodel fetch` gives the files that this cluster holds" in done.stderr
    finally:
        site.up()


@pytest.mark.parametrize("name", ["hub-0.36"])
def test_files_that_the_hub_takes_in_parts_are_pushed_by_huggingface_hubs_agent(site, clone, environment, name):
    """`hf lfs-enable-largefiles`: what a repo with files over 5 GB needs, here with parts of 2 MiB."""
    site.hub.huggingface.writing.part_bytes = 2 * MIB
    command = environment(name).with_name("huggingface-cli")
    subprocess.run(
        [command, "lfs-enable-largefiles", clone.folder], check=True, capture_output=True, env={"HOME": str(clone.home)}
    )
    clone.git("config", "lfs.customtransfer.multipart.path", command)
    head = clone.commit({"a.safetensors": noise(22, 9 * MIB), "b.safetensors": noise(23, 5 * MIB)})
    site.hub.reset()
    clone.git("push", "origin", "HEAD:main")
    assert clone.repo.head.id == head
    assert site.hub.counters.requests["PUT cdn upload"] == 5 + 3
    assert clone.two.fetch(clone.repo.name)["commit"] == head
    assert site.sent < 1000 + LOOKS
