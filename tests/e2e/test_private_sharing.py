"""Private models among the members of a closed cluster: bytes from the peer for those whom the hub lets in, none for others."""

import hashlib
import random
import statistics
import time
from zlib import crc32

import pytest
import trio
from daemons import MIB, files_in, finish, until
from noise import noise

from p2pmodel.content import Blob, BlobId
from p2pmodel.content.access_proof import secret_name
from p2pmodel.delivery.ports import Order
from p2pmodel.errors import NotHeldError, SourceError
from p2pmodel.network import Address, Candidate
from p2pmodel.peering import Identity, Membership, Peering, TcpNetwork, TlsSecure, parse_join_token
from p2pmodel.peering.membership import sharing_key
from p2pmodel.settings import HostPort, PeeringSettings
from p2pmodel.wire.messages import AskManifest, AskPrivate, Have, Interest, Problem

pytestmark = pytest.mark.houses

SAMPLED = 4 * 16 * 1024  # what a proof takes from the hub
ALICE, BOB, EVE = "hf_aliceOfTheFirstNode", "hf_bobOfTheSecondNode", "hf_eveWhomNobodyLetIn"


@pytest.fixture(scope="module")
def key_file(site, house):
    site.hub.add_user(ALICE, "alice")
    site.hub.add_user(BOB, "bob")
    site.hub.add_user(EVE, "eve", grants=[])
    file = str(house.folder / "cluster-key")
    assert house.user.run("cluster", "init", "--key-file", file).code == 0
    return file


@pytest.fixture(scope="module")
def one(house, key_file):
    return house.daemon("one", cluster__key_file=key_file)


@pytest.fixture(scope="module")
def two(house, one, key_file):
    return house.daemon("two", [one], cluster__key_file=key_file)


class Model:
    """A private repo of a test's own, with bytes that no other has."""

    def __init__(self, site, test, **how):
        seed = crc32(test.encode())
        self.name = f"acme/{seed:x}"
        self.weights = noise(seed, 5 * MIB + 17)
        self.files = {"config.json": f'{{"hidden": {seed}}}'.encode(), "model.safetensors": self.weights}
        site.hub.add_repo("model", self.name, self.files, **how or {"private": True})


@pytest.fixture
def model(site, request):
    return Model(site, request.node.name)


@pytest.fixture
def gated(site, request):
    """Listed for everybody, given to some."""
    return Model(site, request.node.name, gated=True)


def get(node, model, token, path="model.safetensors"):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return node.ask(f"/{model.name}/resolve/main/{path}", **headers)


def test_the_second_users_token_brings_the_bytes_from_the_peer(site, one, two, model):
    before = two.received("peer")
    assert get(one, model, ALICE).body == model.weights
    site.hub.reset()
    assert get(two, model, BOB).body == model.weights
    assert two.received("peer") - before == len(model.weights)
    assert site.sent == SAMPLED
    done = two.fetch(model.name, HF_TOKEN=BOB)
    assert files_in(done["path"]) == model.files
    assert site.sent == SAMPLED + len(model.files["config.json"])
    assert "private and gated ones with members whose own users can read them" in two.command("status").out


@pytest.mark.scorecard("S18")
@pytest.mark.parametrize("token", [None, "hf_nonsense", EVE])
def test_no_byte_and_no_word_for_those_whom_the_hub_refuses(one, two, model, token):
    before = two.received("peer")
    assert get(one, model, ALICE).body == model.weights
    answer = get(two, model, token)
    assert answer.status in {401, 404}
    assert answer.headers["x-error-code"] == "RepoNotFound"
    assert two.received("peer") == before


@pytest.mark.scorecard("S18")
def test_a_gated_repo_whose_hashes_all_can_see_is_for_those_who_were_let_in(one, two, gated):
    before = two.received("peer")
    assert get(one, gated, ALICE).body == gated.weights
    assert get(two, gated, EVE).status == 403
    assert two.received("peer") == before
    assert get(two, gated, BOB).body == gated.weights


@pytest.mark.scorecard("S18")
def test_a_token_that_is_revoked_stops_working_when_the_yes_runs_out(site, house, one, key_file, model):
    carol = "hf_carolUntilToday"
    site.hub.add_user(carol, "carol")
    two = house.daemon("two-revoked", [one], cluster__key_file=key_file, access__cache="1s", access__offline_grace="0s")
    assert get(one, model, ALICE).body == model.weights
    assert get(two, model, carol, "config.json").status == 200
    site.hub.shelf.users.pop(carol)
    until(lambda: get(two, model, carol, "config.json").status != 200, "the yes to run out", 10)
    assert get(two, model, carol).status in {401, 404}
    assert two.received("peer") == 0
    two.stop()


@pytest.mark.scorecard("S18")
@pytest.mark.parametrize("sharing", ["prove", "members"])
def test_a_token_that_is_revoked_in_the_middle_of_a_transfer_between_peers_ends_it(site, house, key_file, model, sharing):
    how = {"cluster__key_file": key_file, "cluster__private_sharing": sharing, "access__cache": "4s"}
    one = house.daemon(f"giver-{sharing}", **how)
    two = house.daemon(f"taker-{sharing}", [one], limits__peer_download="250KB/s", **how)  # 20 s
    dave = f"hf_dave{sharing}"
    site.hub.add_user(dave, f"dave{sharing}")
    assert get(one, model, ALICE).body == model.weights
    fetch = two.begin_command("fetch", model.name, "--include", "*.safetensors", HF_TOKEN=dave)
    until(lambda: two.received("peer") or two.ask("/-/api/status").json["downloads"], "the transfer to begin")
    time.sleep(0.5)
    site.hub.shelf.users.pop(dave)
    began = time.monotonic()
    assert finish(fetch).code in {3, 4}
    assert time.monotonic() - began < 6
    assert two.received("peer") < len(model.weights)
    for node in (one, two):
        node.stop()


@pytest.mark.attacks  # four daemons
@pytest.mark.scorecard("S18")
def test_private_models_stay_at_home_where_sharing_is_off_or_the_cluster_is_open(site, house, key_file, model):
    closed = [house.daemon("off-1", cluster__key_file=key_file, cluster__private_sharing="off")]
    closed.append(house.daemon("off-2", closed[:1], cluster__key_file=key_file))
    opened = [house.daemon("open-1")]
    opened.append(house.daemon("open-2", opened[:1]))
    for first, second in (closed, opened):
        assert get(first, model, ALICE).body == model.weights
        assert get(second, model, BOB).body == model.weights
        assert second.received("peer") == 0
        first.stop()
        second.stop()


def test_trusting_all_members_is_refused_where_everybody_is_one(house):
    node = house.plan("open-members", cluster__private_sharing="members")
    assert node.begin().wait(20) == 2
    assert "everybody on the subnet is a member" in node.log


class Outsider:
    """A member of the cluster whose users may read nothing: it says what it likes, over real TLS."""

    def __init__(self, token):
        identity = Identity.generate()
        self.node, self.heard, self.linked_to = identity.node, [], trio.Event()
        self.peering = Peering(
            PeeringSettings(listen=HostPort("127.0.0.1", 0)),
            node=identity.node,
            boot=bytes(8),
            closed=True,
            network=TcpNetwork(),
            secure=TlsSecure(Membership.closed(identity, token)),
            inventory=lambda: (0, bytes(16)),
            blocking=trio.to_thread.run_sync,
            dice=random.SystemRandom(),
            abilities=["private"],
        )

    def linked(self, peer):
        self.peer = peer
        self.linked_to.set()

    def unlinked(self, peer): ...

    def received(self, peer, message):
        self.heard.append(message)

    async def answer(self, peer, question):
        return [Problem(code="not_held")]

    async def timed(self, question):
        """The answer, and how long it took."""
        began = time.perf_counter()
        with pytest.raises(SourceError) as refused:
            await self.peering.ask(self.peer, question)
        return str(refused.value), time.perf_counter() - began


@pytest.mark.scorecard("S18")
async def test_a_member_that_knows_the_hash_cannot_even_tell_that_the_blob_is_there(one, key_file, gated, figure):
    """Gated: everybody may list the sha256. The same words and the same time (within a fifth) as for a blob that nobody has."""
    assert (await trio.to_thread.run_sync(get, one, gated, ALICE)).body == gated.weights
    token = (await trio.Path(key_file).read_text()).strip()
    key, outsider = sharing_key(parse_join_token(token)), Outsider(token)
    here = Blob(BlobId("sha256", hashlib.sha256(gated.weights).hexdigest()), len(gated.weights))
    absent = Blob(BlobId("sha256", "ab" * 32), len(gated.weights))
    async with trio.open_nursery() as nursery:
        await nursery.start(outsider.peering.run, outsider)
        outsider.peering.heard(Candidate(Address("127.0.0.1", one.peering), None, "static"))
        await outsider.linked_to.wait()
        took = {here: [], absent: []}
        for _ in range(9):
            for blob, times in took.items():
                for proof in (b"", bytes(32)):
                    said, seconds = await outsider.timed(AskPrivate(request=1, name=secret_name(blob.id, key), proof=proof))
                    assert "not_held" in said
                    times.append(seconds)
        for blob in took:
            assert "not_held" in (await outsider.timed(AskManifest(request=1, blob=blob.id.to_bytes())))[0]
            outsider.peering.send(outsider.peer, Interest(blob=blob.id.to_bytes(), size=blob.size, on=True))
            for private in (True, False):
                with pytest.raises(NotHeldError):
                    await outsider.peering.source(outsider.peer).fetch(Order(blob, 0, 1, private=private), None)
        await trio.sleep(0.3)
        nursery.cancel_scope.cancel()
    told = [(have.sealed, have.wanted, have.chunks) for have in outsider.heard if isinstance(have, Have)]
    assert told == [(False, False, bytes(1))] * 2
    known, unknown = (statistics.median(times) for times in took.values())
    figure(f"no to a known blob {known * 1000:.1f} ms, to an unknown one {unknown * 1000:.1f} ms")
    assert 0.8 < known / unknown < 1.25
