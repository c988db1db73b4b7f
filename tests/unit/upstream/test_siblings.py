"""A listing out of the answer that names the commit."""

import json
import shutil
import subprocess

import pytest

from p2pmodel.upstream.siblings import tree_of

FILES = {"README.md": b"# hi", "a.d": b"", "a/z.txt": b"z", "a/b/c.txt": b"c", "a/b.txt": b"b", "a-b": b"!"}


def siblings(*files):
    return json.dumps(files).encode()


def sibling(path, **fields):
    return {"rfilename": path, "size": 2, "blobId": "9e26dfeeb6e641a33dae4961196235bdb965b21b", **fields}


def git(folder, *arguments):
    environment = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "PATH": "/usr/bin:/bin"}
    return subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_every_entry_is_the_one_that_git_has(tmp_path):
    git(tmp_path, "init", "-q")
    for path, data in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    git(tmp_path, "add", ".")
    tree = git(tmp_path, "write-tree").strip()
    there = {}
    for line in git(tmp_path, "ls-tree", "-r", "-t", tree).splitlines():
        (_, kind, oid), path = line.split("\t")[0].split(), line.split("\t")[1]
        there[path] = ({"blob": "file", "tree": "directory"}[kind], oid)
    files = [sibling(path, size=len(data), blobId=there[path][1]) for path, data in FILES.items()]
    assert {entry["path"]: (entry["type"], entry["oid"]) for entry in tree_of(siblings(*files))} == there


def test_large_files_are_told_as_a_tree_tells_them():
    lfs = {"sha256": "ab" * 32, "size": 7, "pointerSize": 134}
    [entry] = tree_of(siblings(sibling("w.safetensors", size=7, lfs=lfs)))
    assert entry["lfs"] == {"oid": "ab" * 32, "size": 7, "pointerSize": 134}


def test_an_empty_repo_has_an_empty_listing():
    assert tree_of(b"[]") == []


@pytest.mark.parametrize(
    "told",
    [
        b"null",
        b"{}",
        b"[" * 5000,
        siblings({"rfilename": "config.json"}),
        siblings(sibling("config.json", size=None)),
        siblings(sibling("config.json", blobId="not hex")),
        siblings(sibling("w.bin", lfs={"size": 2})),
        siblings(*[sibling(str(number)) for number in range(50_001)]),
    ],
)
def test_what_may_be_incomplete_is_no_listing(told):
    assert tree_of(told) is None
