"""`gateway.vouchers` with real daemons: what members vouch for leaves before this node has checked it, and what liars get."""

import sys
from contextlib import closing
from pathlib import Path

import pytest
from daemons import CHUNK, MIB, until
from noise import noise

WEIGHTS = noise(7, 24 * MIB + 5)
CHUNKS = 7
REPO, PATH = "acme/vouched", "/acme/vouched/resolve/main/model.safetensors"
LIAR = str(Path(__file__).with_name("lying_member.py"))
SLOW = {"limits__peer_download": "8MB/s"}  # so that the file is on its way for seconds


@pytest.fixture(scope="module")
def key_file(house, site):
    site.hub.add_repo("model", REPO, {"model.safetensors": WEIGHTS})
    file = str(house.folder / "cluster-key")
    assert house.user.run("cluster", "init", "--key-file", file).code == 0
    return file


@pytest.fixture(scope="module")
def sealers(house, key_file):
    one = house.daemon("one", cluster__key_file=key_file)
    one.bring(REPO)
    two = house.daemon("two", [one], cluster__key_file=key_file)
    two.bring(REPO)
    return one, two


def member(house, name, peers, key_file, how, **settings):
    """One that says what `lying_member.py` makes it say, and holds the file."""
    daemon = house.plan(name, peers, cluster__key_file=key_file, **settings)
    daemon.start(before=[sys.executable, LIAR, how]).linked(len(peers))
    daemon.bring(REPO)
    return daemon


def begun(daemon):
    """The answer of a client that reads the file, once its head has come; and what the node said of the download just then."""
    connection = daemon.door(30.0)
    connection.request("GET", PATH, headers={"Host": f"localhost:{daemon.port}"})
    answer = connection.getresponse()
    downloads = daemon.ask("/-/api/status").json["downloads"]
    return connection, answer, downloads


def test_bytes_leave_before_the_file_is_here_once_enough_members_vouch_for_it(site, house, sealers, key_file):
    late = house.daemon("late", sealers, cluster__key_file=key_file, gateway__vouchers=2, **SLOW)
    site.hub.reset()
    connection, answer, [download] = begun(late)
    with closing(connection):
        assert (answer.status, download["vouched"], download["chunks_here"] < CHUNKS) == (200, True, True)
        assert "once 2 other members" in late.command("status").out
        assert answer.read() == WEIGHTS
    assert site.sent == 0
    until(lambda: not late.ask("/-/api/status").json["downloads"], "the file to be checked")
    assert "1 of 1 files are whole at 2 peers or more" in late.command("info", REPO).out
    late.stop()


def test_an_open_cluster_has_no_members_to_believe(house):
    daemon = house.plan("open", gateway__vouchers=1)
    daemon.begin()
    assert daemon.wait() == 2
    assert "gateway.vouchers believes members, and in an open cluster everybody on the subnet is one" in daemon.log
    assert "cluster init" in daemon.log


@pytest.mark.houses
@pytest.mark.parametrize("vouchers", [0, 3])
def test_with_too_few_members_a_client_waits_for_the_whole_file(house, sealers, key_file, vouchers):
    late = house.daemon(f"late-{vouchers}", sealers, cluster__key_file=key_file, gateway__vouchers=vouchers, **SLOW)
    connection, answer, downloads = begun(late)
    with closing(connection):
        assert all(download["chunks_here"] == CHUNKS for download in downloads)
        assert answer.read() == WEIGHTS
    late.stop()


@pytest.mark.houses
def test_a_member_that_says_otherwise_is_found_out_before_a_byte_leaves(house, sealers, key_file):
    liar = member(house, "liar", sealers, key_file, "false")
    late = house.daemon("wary", [*sealers, liar], cluster__key_file=key_file, gateway__vouchers=2, **SLOW)
    assert late.ask(PATH, patience_s=60.0).body == WEIGHTS
    [ban] = late.ask("/-/api/peers").json["bans"]
    assert (ban["why"], ban["for_good"]) == ("false_digest", True)
    assert "vouched falsely for it" in late.command("why", REPO).out
    for daemon in (late, liar):
        daemon.stop()


@pytest.mark.houses
def test_a_voucher_of_another_cluster_is_no_vote(house, sealers, key_file):
    stranger = member(house, "stranger", sealers, key_file, "foreign")
    late = house.daemon("strict", [*sealers, stranger], cluster__key_file=key_file, gateway__vouchers=3, **SLOW)
    connection, answer, downloads = begun(late)
    with closing(connection):
        assert all(download["chunks_here"] == CHUNKS for download in downloads)
        assert answer.read() == WEIGHTS
    assert "voucher_refused" in late.log
    assert "foreign_cluster" in late.log
    for daemon in (late, stranger):
        daemon.stop()


@pytest.mark.houses
def test_as_many_liars_as_are_asked_for_cost_one_reader_and_their_membership(site, house, key_file):
    """Out of sight of any honest member, who would contradict them."""
    liars = [member(house, f"liar-{number}", [], key_file, "false") for number in range(2)]
    site.hub.pace.rate = 2 * MIB  # or it might be asked for that very chunk, and all would be well
    late = house.daemon("late-to-liars", liars, cluster__key_file=key_file, gateway__vouchers=2, **SLOW)
    connection, answer, _ = begun(late)
    with closing(connection):
        came = b""
        while piece := answer.read1(CHUNK):
            came += piece
    assert came[CHUNK : 2 * CHUNK] == bytes(CHUNK), "this is what the operator's number is for"
    assert len(came) <= (CHUNKS - 1) * CHUNK, "the last chunk waits for our own check"
    until(lambda: "wrong_bytes_left" in late.log, "the file to be right")
    assert late.ask(PATH, patience_s=60.0).body == WEIGHTS
    assert len(late.ask("/-/api/peers").json["bans"]) == 2
    assert late.command("why", REPO).out.count("1 wrong chunk had left to clients") == 2
