"""The hub's own root with real daemons: what it proves leaves before this node has checked the whole, whoever gave it."""

import sys
from contextlib import closing
from pathlib import Path

import pytest
from daemons import CHUNK, MIB, until
from noise import noise

from p2pmodel.demo.repos import Content

WEIGHTS = noise(9, 36 * MIB + 5)
CHUNKS = 10
REPO, OTHER = "acme/rooted", "acme/otherwise"
LIAR = str(Path(__file__).with_name("lying_member.py"))
SLOW = {"limits__peer_download": "16MB/s"}  # so that the file is on its way for seconds


def path(repo):
    return f"/{repo}/resolve/main/model.safetensors"


@pytest.fixture(scope="module")
def holder(house, site):
    site.hub.add_repo("model", REPO, {"model.safetensors": Content.of(WEIGHTS, xet=True)})
    one = house.daemon("one")
    one.bring(REPO)
    until(lambda: "pieces_listed" in one.log, "the file to be cut")
    return one


def begun(daemon, repo=REPO):
    """The answer of a client that reads the file, once its head has come; and what the node said of the download just then."""
    connection = daemon.door(30.0)
    connection.request("GET", path(repo), headers={"Host": f"localhost:{daemon.port}"})
    answer = connection.getresponse()
    downloads = daemon.ask("/-/api/status").json["downloads"]
    return connection, answer, downloads


def test_bytes_of_one_peer_leave_as_they_come_and_its_list_is_handed_on(house, site, holder):
    late = house.daemon("late", [holder], **SLOW)
    site.hub.reset()
    connection, answer, [download] = begun(late)
    with closing(connection):
        assert (answer.status, download["proven"], download["chunks_here"] < CHUNKS // 2) == (200, True, True)
        assert "proven by the hub's own root" in late.command("status").out
        assert answer.read() == WEIGHTS
    assert site.sent == 0
    until(lambda: "proven by the hub's own root" in late.command("why", REPO).out, "the record to say so")
    until(lambda: "pieces_listed" in late.log, "the list to be kept")
    late.stop()
    late.start()
    later = house.daemon("later", [late], **SLOW)
    connection, answer, [download] = begun(later)
    with closing(connection):
        assert download["proven"]
        assert answer.read() == WEIGHTS
    for daemon in (late, later):
        daemon.stop()


@pytest.mark.houses
@pytest.mark.usefixtures("holder")
def test_a_peer_that_lies_is_found_out_before_a_false_byte_leaves(house):
    liar = house.plan("liar")
    liar.start(before=[sys.executable, LIAR, "false"])
    liar.bring(REPO)
    until(lambda: "pieces_listed" in liar.log, "the file to be cut")
    misled = house.daemon("misled", [liar], **SLOW)
    connection, answer, [download] = begun(misled)
    with closing(connection):
        assert (download["proven"], download["chunks_here"] < CHUNKS) == (True, True)
        assert answer.read() == WEIGHTS
    assert "chunk_not_as_listed" in misled.log
    [ban] = misled.ask("/-/api/peers").json["bans"]
    assert (ban["why"], ban["for_good"]) == ("false_digest", True)
    for daemon in (liar, misled):
        daemon.stop()


@pytest.mark.houses
def test_where_the_hub_names_another_root_a_client_waits_for_the_whole_file(house, site, holder):
    data = noise(10, 9 * CHUNK)
    site.hub.add_repo("model", OTHER, {"model.safetensors": data})
    holder.bring(OTHER)
    until(lambda: "pieces_of_no_use" in holder.log, "the file to be cut in vain")
    late = house.daemon("patient", [holder], **SLOW)
    connection, answer, downloads = begun(late, OTHER)
    with closing(connection):
        assert all(download["chunks_here"] == 9 for download in downloads)
        assert answer.read() == data
    assert late.ask("/-/api/peers").json["bans"] == []
    late.stop()
