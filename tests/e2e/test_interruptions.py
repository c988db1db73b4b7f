"""What breaks in the middle: the fetching node, its peer, the hub. The fetch ends right or resumes, and costs little twice."""

from zlib import crc32

import pytest
from daemons import CHUNK, MIB, files_in, finish, until
from noise import noise

from p2pmodel.content import Blob, BlobId
from p2pmodel.store.words import parse

RATE = 40e6  # of the hub: what is cut in the middle must have a middle
SIZE = 40 * MIB
_FEW = 6 * CHUNK  # on their way in, or not yet recorded, when the power went


@pytest.fixture(scope="module")
def nodes(house):
    one = house.daemon("one")
    return one, house.daemon("two", [one])


@pytest.fixture
def model(site, request):
    """A cold model of the test's own."""
    name = f"acme/{request.node.name.removeprefix('test_')[:60]}"
    files = {"config.json": b"{}", "model.safetensors": noise(crc32(name.encode()), SIZE)}
    site.hub.add_repo("model", name, files)
    return name, files


@pytest.mark.scorecard("S1")
def test_a_fetching_node_killed_in_the_middle_resumes_after_its_restart(site, house, model):
    name, files = model
    node = house.daemon("killed")
    site.hub.pace.rate = RATE / 2
    fetch = node.begin_command("fetch", name)
    until(lambda: site.sent > SIZE * 3 / 4, "most of it to be here")
    node.kill()
    done = finish(fetch)
    assert done.code == 1
    assert "resumes" in done.err
    assert node.command("status").code == 6  # what it left in the state directory misleads nobody
    before = site.sent
    site.hub.pace.rate = None
    again = node.start().bring(name)
    assert files_in(again["path"]) == files
    assert site.sent - before <= SIZE / 4 + _FEW
    assert again["here"] >= SIZE * 3 / 4 - _FEW
    assert node.stop() == 0
    assert not (node.state / "run/daemon.json").exists()


def test_a_peer_that_shares_a_cold_start_and_dies_costs_the_other_nothing(site, house, nodes, model):
    """Whatever the dead one had claimed of the hub is read by the other."""
    name, files = model
    _, survivor = nodes
    victim = house.daemon("victim", nodes)
    survivor.linked(2)
    site.hub.pace.rate = RATE / 2
    fetches = [node.begin_command("fetch", name, "--json") for node in (victim, survivor)]
    until(lambda: site.sent > SIZE / 3, "both to be at work")
    victim.kill()
    site.hub.pace.rate = None
    assert finish(fetches[0]).code == 1
    done = finish(fetches[1])
    assert done.code == 0, done.err
    assert files_in(done.json["path"]) == files


@pytest.mark.houses
def test_what_a_killed_node_had_from_a_peer_that_left_goes_on_to_another_with_that_peers_signature(site, house, model):
    """It never signs for it itself: without the word that it kept it could not give a byte of it."""
    name, files = model
    holder = house.daemon("left", limits__peer_upload="12MB/s")
    holder.bring(name)
    signer = holder.ask("/-/api/status").json["node_id"]
    killed = house.daemon("killed-with-a-half", [holder])
    fetch = killed.begin_command("fetch", name)
    until(lambda: killed.received("peer") > SIZE / 2, "half of it to be here")
    killed.kill()
    assert finish(fetch).code == 1
    holder.stop()
    site.hub.reset()
    site.hub.pace.rate = 1000.0

    killed.start()
    third = house.daemon("third", [killed])
    fetch = third.begin_command("fetch", name, "--json")
    until(lambda: third.received("peer") > SIZE / 4, "the half to go on")
    words = {path.name.removesuffix(".words"): path.read_bytes() for path in until(lambda: words_of(third), "its word")}
    [(blob, kept)] = words.items()
    said = parse(Blob(BlobId.parse(blob.replace("-", ":")), SIZE), kept).words
    assert {word.node for word in said} == {signer}
    site.hub.pace.rate = None
    done = finish(fetch)
    assert done.code == 0, done.err
    assert files_in(done.json["path"]) == files
    assert site.sent <= SIZE * 3 / 4 + _FEW


def words_of(node):
    """The words of others that it keeps, by the blob that they speak of."""
    return list((node.state / "partial").glob("*.words"))


def test_the_only_peer_with_a_model_dies_in_the_middle_and_the_hub_gives_the_rest(site, house, nodes, model):
    name, files = model
    weights = noise(7, 64 * MIB) * 2
    site.hub.repo("model", name).commit(files | {"model.safetensors": weights})
    holder = house.daemon("holder")
    holder.bring(name)
    node = house.daemon("reader", [holder])
    site.hub.reset()
    fetch = node.begin_command("fetch", name, "--json")
    until(lambda: node.received("peer") > 8 * MIB, "the peer to be at work")
    holder.kill()
    done = finish(fetch)
    assert done.code == 0, done.err
    assert files_in(done.json["path"])["model.safetensors"] == weights
    assert site.sent == done.json["upstream"] > 0
    assert done.json["peers"] > 0
    node.stop()


def test_a_line_to_the_hub_that_breaks_now_and_then_is_ridden_out(site, nodes, model):
    name, files = model
    site.hub.fault("GET /blobs/", host="cdn", reset_at=5 * MIB, times=1)
    site.hub.fault("GET /blobs/", host="cdn", truncate_at=3 * MIB, skip=1, times=1)
    site.hub.fault("GET /blobs/", host="cdn", drop=True, skip=2, times=1)
    done = nodes[0].bring(name)
    assert files_in(done["path"]) == files
    assert site.hub.stats()["faults_played"] == 3
    assert site.sent <= SIZE + 3 * CHUNK


def test_a_hub_that_goes_away_in_the_middle_is_told_within_seconds_and_the_command_resumes(site, nodes, model):
    name, files = model
    site.hub.pace.rate = RATE
    fetch = nodes[0].begin_command("fetch", name)
    until(lambda: site.sent > SIZE / 2, "half of it to be here")
    site.down()
    try:
        done = finish(fetch, patience_s=15)
    finally:
        site.hub.pace.rate = None
        site.up()
    assert done.code == 5, done.err
    before = site.sent
    until(lambda: nodes[0].bring(name)["event"] == "done", "the hub to be asked again")
    assert site.sent - before <= SIZE / 2 + _FEW
    assert files_in(nodes[0].bring(name)["path"]) == files
