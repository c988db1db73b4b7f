from __future__ import annotations

import hashlib

import pytest

from p2pmodel.content import RepoKind
from p2pmodel.demo.repos import Content, HubRepo
from p2pmodel.demo.shelf import Shelf


def _repo(files, **options) -> HubRepo:
    repo = HubRepo(RepoKind.MODEL, "acme/tiny", **options)
    repo.commit(files)
    return repo


def test_the_same_files_give_the_same_commit_ids_and_others_do_not():
    assert _repo({"a": b"1"}).head.id == _repo({"a": b"1"}).head.id
    assert _repo({"a": b"1"}).head.id != _repo({"a": b"2"}).head.id
    assert _repo({"a": b"1"}).head.id != _repo({"b": b"1"}).head.id


def test_a_small_file_is_named_as_git_names_it():
    file = _repo({"hello.txt": b"hello\n"}).head.files["hello.txt"]
    assert (file.lfs, file.etag) == (False, "ce013625030ba8dba906f756967f9e9ca394464a")


@pytest.mark.parametrize(("path", "body"), [("model.safetensors", b"x"), ("big.txt", bytes(1024 * 1024 + 1))])
def test_weights_and_large_files_are_lfs_and_named_by_sha256(path, body):
    file = _repo({path: body}).head.files[path]
    assert (file.lfs, file.etag) == (True, hashlib.sha256(body).hexdigest())
    assert file.git_oid == hashlib.sha1(b"blob %d\0" % len(file.content.pointer) + file.content.pointer).hexdigest()


def test_a_file_on_disk_is_the_same_content_as_its_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc" * 1000)
    on_disk, in_memory = Content.of(tmp_path / "f"), Content.of(b"abc" * 1000)
    assert (on_disk.size, on_disk.sha256, on_disk.git_sha1) == (in_memory.size, in_memory.sha256, in_memory.git_sha1)
    assert on_disk.read(1, 5) == in_memory.read(1, 5) == b"bcabc"


def test_a_true_xet_root_is_found_where_it_is_asked_for(tmp_path):
    """By hf_xet 1.8.0."""
    (tmp_path / "f").write_bytes(bytes(5_242_881))
    root = "569a3aa2ada22b12be92868cf3fcdec5d8e24563cef0227ff07dc2ae33fcc5ce"
    assert Content.of(tmp_path / "f", xet=True).xet_hash == Content.of(bytes(5_242_881), xet=True).xet_hash == root
    assert len(Content.of(b"abc").xet_hash) == len(root)


def test_given_hashes_are_believed_and_the_file_is_not_read(tmp_path):
    repo = _repo({"w.bin": Content(tmp_path / "absent", 10, "ab" * 32)})
    assert repo.head.files["w.bin"].etag == "ab" * 32


def test_a_commit_changes_what_it_names_and_keeps_the_rest():
    repo = _repo({"a": b"1", "b": b"1"})
    first = repo.head
    second = repo.commit({"b": b"2", "a": b"1", "c": b"3"})
    assert {path: file.commit for path, file in repo.head.files.items()} == {"a": first.id, "b": second, "c": second}
    repo.commit({"a": None})
    assert list(repo.head.files) == ["b", "c"]
    assert [commit.id for commit in repo.head.history()][1:] == [second, first.id]


def test_a_revision_may_be_named_in_every_way_that_hubs_know():
    repo = _repo({"a": b"1"})
    first = repo.head.id
    repo.tag("v1")
    second = repo.commit({"a": b"2"}, branch="dev")
    pull = repo.commit({"a": b"3"}, branch="refs/pr/1")
    named = {
        "main": first,
        "master": first,
        "HEAD": first,
        first: first,
        "v1": first,
        "refs/tags/v1": first,
        "refs/heads/main": first,
    }
    named |= {"dev": second, "refs/pr/1": pull}
    assert {name: repo.resolve(name).id for name in named} == named
    assert repo.resolve("nowhere") is None


def test_a_listing_shows_directories_once_and_only_what_lies_below():
    head = _repo({"top": b"", "d/a": b"", "d/e/b": b"", "da": b""}).head
    assert [entry.path for entry in head.listing(recursive=False)] == ["d", "da", "top"]
    assert [entry.path for entry in head.listing("d", recursive=False)] == ["d/a", "d/e"]
    assert [entry.path for entry in head.listing(recursive=True)] == ["d", "d/a", "d/e", "d/e/b", "da", "top"]
    assert head.listing("top", recursive=False) is None


def test_a_name_is_taken_once_and_a_renamed_repo_is_found_under_the_old_one():
    shelf = Shelf()
    repo = _repo({"a": b"1"})
    shelf.put(repo)
    with pytest.raises(ValueError, match="already"):
        shelf.put(repo)
    shelf.rename(RepoKind.MODEL, "acme/tiny", "acme/small")
    assert shelf.find(RepoKind.MODEL, "acme/tiny") is None
    assert shelf.moved_to(RepoKind.MODEL, "acme/tiny") == "acme/small"
    assert shelf.moved_to(RepoKind.MODEL, "Acme/Small") == "acme/small"
