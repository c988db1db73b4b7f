"""Which file `-hf org/model:tag` means when only the listing can tell."""

import pytest

from p2pmodel.content import FileEntry, Hub, Repo, RepoKind, Snapshot
from p2pmodel.errors import EntryNotFoundError
from p2pmodel.gateway.gguf import manifest

FILES = (
    "README.md",
    "m-IQ2_XS.gguf",
    "m-Q4_K_M-00001-of-00002.gguf",
    "m-Q4_K_M-00002-of-00002.gguf",
    "m-Q8_0.gguf",
    "a-mmproj.gguf",
)


def snapshot(*paths):
    files = tuple(FileEntry(path, 7, None) for path in sorted(paths))
    return Snapshot(Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/m"), "0" * 40, files, public=True, listing=b"[]")


@pytest.mark.parametrize(
    ("tag", "paths", "chosen"),
    [
        ("latest", FILES, "m-Q4_K_M-00001-of-00002.gguf"),
        ("q8_0", FILES, "m-Q8_0.gguf"),
        ("Q4_K_M", FILES, "m-Q4_K_M-00001-of-00002.gguf"),
        ("latest", ("z.gguf", "b-F16.GGUF"), "b-F16.GGUF"),
    ],
)
def test_a_tag_is_a_quantisation_and_none_is_the_usual_one(tag, paths, chosen):
    assert manifest(snapshot(*paths), tag)["ggufFile"] == {"rfilename": chosen, "size": 7}


def test_what_a_model_that_sees_needs_is_named_too():
    assert manifest(snapshot(*FILES), "latest")["mmprojFile"]["rfilename"] == "a-mmproj.gguf"
    assert "mmprojFile" not in manifest(snapshot("m.gguf"), "latest")


@pytest.mark.parametrize(("tag", "paths"), [("Q5_1", FILES), ("latest", ("README.md", "a-mmproj.gguf"))])
def test_what_is_not_there_is_said(tag, paths):
    with pytest.raises(EntryNotFoundError):
        manifest(snapshot(*paths), tag)
