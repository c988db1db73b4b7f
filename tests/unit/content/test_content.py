import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from p2pmodel.content import (
    Blob,
    BlobHasher,
    BlobId,
    ChunkMap,
    Hub,
    Manifest,
    Repo,
    RepoKind,
    Seal,
    check_path,
    chunk_count,
    chunk_size,
    chunks_covering,
    commit_of,
)
from p2pmodel.limits import CHUNK_BYTES

SHA = BlobId("sha256", "ab" * 32)
indices = st.sets(st.integers(0, 299))


@given(indices)
def test_a_chunk_map_is_the_set_of_its_chunks(chunks):
    made = ChunkMap(300, chunks)
    assert list(made) == sorted(chunks)
    assert len(made) == len(chunks)
    assert ChunkMap.from_bytes(300, made.to_bytes()) == made
    assert list(made.missing()) == sorted(set(range(300)) - chunks)
    assert made.prefix() == next(i for i in range(301) if i not in chunks)
    assert sum(count for _, count in made.runs()) == len(chunks)


@given(indices, indices)
def test_chunk_maps_combine_like_sets(left, right):
    a, b = ChunkMap(300, left), ChunkMap(300, right)
    assert ChunkMap.union(300, (a, b)) == a | b
    assert set(a.rarest([a, b], 2)) == (left - right or left)
    assert set(a | b) == left | right
    assert set(a & b) == left & right
    assert set(a - b) == left - right


@given(st.integers(0, 299), st.integers(0, 300))
def test_holds_asks_for_every_chunk_of_a_range(start, stop):
    made = ChunkMap.span(300, range(100, 200))
    chunks = range(start, max(start, stop))
    assert made.holds(chunks) == all(100 <= chunk < 200 for chunk in chunks)


def test_a_chunk_map_refuses_bits_beyond_its_last_chunk():
    with pytest.raises(ValueError, match="beyond"):
        ChunkMap.from_bytes(9, b"\xff\xff")
    with pytest.raises(ValueError, match="takes 2 bytes"):
        ChunkMap.from_bytes(9, b"\xff")
    with pytest.raises(IndexError):
        ChunkMap.span(9, range(8, 10))


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 32, "sha256:../" + "a" * 61]
)
def test_a_blob_name_is_parsed_strictly(text):
    with pytest.raises(ValueError, match="not a blob name"):
        BlobId.parse(text)


@given(st.sampled_from(["sha256", "git-sha1"]), st.binary(min_size=32, max_size=32))
def test_a_blob_name_survives_text_and_bytes(algorithm, raw):
    blob = BlobId(algorithm, raw[: 32 if algorithm == "sha256" else 20].hex())
    assert BlobId.parse(str(blob)) == blob
    assert BlobId.from_bytes(blob.to_bytes()) == blob


def test_git_sha1_is_what_git_says():
    hasher = BlobHasher("git-sha1", 6)
    hasher.update(b"hello\n")
    assert hasher.id().hex == "ce013625030ba8dba906f756967f9e9ca394464a"


@given(st.integers(0, 5 * CHUNK_BYTES), st.integers(0, 5 * CHUNK_BYTES), st.integers(0, 5 * CHUNK_BYTES))
def test_chunks_tile_a_blob_and_cover_ranges(size, start, stop):
    assert sum(chunk_size(size, index) for index in range(chunk_count(size))) == size
    covering = chunks_covering(start, min(stop, size))
    for byte in {start, min(stop, size) - 1}:
        if start <= byte < min(stop, size):
            assert byte // CHUNK_BYTES in covering


HOSTILE = [
    "", "..", "../x", "a/../b", "/etc/passwd", "a//b", "a/", "./a", "a/.", "a\\b", "C:x", "c:/x", "nul", "NUL.txt", "a/con",
    "com1", "x\0y", "x\ny", "a" * 256, "/".join(["d"] * 600), "trailing.", "trailing ", "a/..", "\\\\host\\share",
    "\ud800", "x" * 5000, "LPT9.log", "con:x", "x:$DATA", "x::$DATA", "x:Zone.Identifier",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE, ids=repr)
def test_a_hostile_file_name_is_refused(path):
    with pytest.raises(ValueError, match="file name"):
        check_path(path)


@pytest.mark.parametrize(
    "path", ["a", ".gitattributes", "sub/dir/model-00001-of-00002.safetensors", "ünï/cödé 文件.txt", "a..b", "...x", "con_x",
     "details_harness|arc:challenge|25_2023-07-19T15:10:27.252411.parquet", 'a*b?<"c">', "ab:c"]
)  # fmt: skip
def test_an_ordinary_file_name_passes(path):
    assert check_path(path) == path


@pytest.mark.parametrize("name", ["a/b/c", "../x", "a/..", "", "a/", "-x", "a b/c", "a/b..c", "x/" + "y" * 200])
def test_a_bad_repo_name_is_refused(name):
    with pytest.raises(ValueError, match="not a repo name"):
        Repo(Hub.HUGGINGFACE, RepoKind.MODEL, name)


def manifest(first=b"a"):
    return Manifest(Blob(SHA, CHUNK_BYTES + 1), hashlib.sha256(first).digest() + hashlib.sha256(b"b").digest())


def test_a_seal_vouches_for_its_manifest_alone():
    key = Ed25519PrivateKey.generate()
    seal = Seal.sign(manifest(), key)
    assert seal.vouches_for(manifest())
    assert not seal.vouches_for(manifest(b"other"))
    forged = Seal(manifest(b"other").root, seal.signer, seal.signature)
    assert not forged.vouches_for(manifest(b"other"))
    assert not Seal(seal.root, b"\0" * 32, seal.signature).vouches_for(manifest())


def test_a_manifest_has_a_digest_for_every_chunk():
    with pytest.raises(ValueError, match="cannot have"):
        Manifest(Blob(SHA, CHUNK_BYTES + 1), b"\0" * 32)


def test_a_commit_may_be_named_by_its_first_digits_where_only_one_begins_so():
    one, two = "abcdef0" + "1" * 33, "abcdef0" + "2" * 33
    assert commit_of("abcdef01", [one, two]) == one
    assert commit_of("ABCDEF02", [one, two]) == two
    assert commit_of("abcdef0", [one, two]) == "abcdef0"
    assert commit_of("abcdef", [one]) == "abcdef"
    assert commit_of("main", [one]) == "main"
