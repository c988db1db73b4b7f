"""Deny lists: which ones count, and how what one node knows reaches all."""

import datetime as dt
from dataclasses import replace

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from p2pmodel.errors import ConfigError
from p2pmodel.limits import DENY_LIST_RETRY_S, HEARTBEAT_S
from p2pmodel.peering import DenyList, Identity, LiveMembership, Membership, Memberships, Mode, new_join_token

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a company")])
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SOON = NOW + dt.timedelta(days=1)
KEY, STRANGERS_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
NUMBER_BYTES_MAX = 20

pytestmark = pytest.mark.scorecard("S34")


def authority(key):
    return x509.CertificateBuilder(NAME, NAME, key.public_key(), 1, NOW, SOON).sign(key, None)


COMPANY = authority(KEY)


def listed(number, *serials, key=KEY, extension=None, critical=True):
    builder = x509.CertificateRevocationListBuilder(NAME, NOW, SOON)
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    if extension is not None:
        builder = builder.add_extension(extension, critical=critical)
    for serial in serials:
        builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, NOW).build())
    return builder.sign(key, None)


def der(*arguments, **how):
    return listed(*arguments, **how).public_bytes(Encoding.DER)


def other_signature(document):
    return document[:-1] + bytes([document[-1] ^ 1])


# Which lists count


def test_a_list_says_whom_it_denies_and_which_number_it_has():
    found = DenyList.parse(der(300, 7, 8), COMPANY)
    assert (found.number, found.serials, found.told_number) == (300, {7, 8}, b"\x01\x2c")
    assert DenyList.parse(found.document, COMPANY) == found
    assert DenyList().told_number == b""


PART = x509.IssuingDistributionPoint(
    full_name=None, relative_name=None, only_contains_user_certs=True, only_contains_ca_certs=False,
    only_some_reasons=None, indirect_crl=False, only_contains_attribute_certs=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (der(5, 7, key=STRANGERS_KEY), "did not sign"),
        (other_signature(der(5, 7)), "did not sign"),
        (der(5, extension=x509.DeltaCRLIndicator(4)), "not a whole list"),
        (der(5, 7, extension=PART), "not a whole list"),
        (der(None, 7), "number"),
        (der(5)[:-5], "no revocation list"),
        (b"", "no revocation list"),
        (COMPANY.public_bytes(Encoding.DER), "no revocation list"),
    ],
    ids=[
        "another signer",
        "another signature",
        "changes only",
        "a part only",
        "no number",
        "cut off",
        "nothing",
        "a certificate",
    ],
)
def test_what_is_no_whole_list_of_the_authority_is_refused(tmp_path, document, why):
    with pytest.raises(ValueError, match=why):
        DenyList.parse(document, COMPANY)
    file = tmp_path / "crl.pem"
    file.write_bytes(document)
    with pytest.raises(ConfigError):
        DenyList.read(file, COMPANY)


@pytest.mark.parametrize("number", [0, 1 << (8 * NUMBER_BYTES_MAX)])
def test_a_list_that_peers_cannot_be_told_counts_here(number):
    found = DenyList.parse(der(number, 7), COMPANY)
    assert (found.serials, found.told_number) == ({7}, b"")


def test_a_list_that_is_too_long_for_peers_counts_here(monkeypatch):
    document = der(5, 7, 8)
    monkeypatch.setattr("p2pmodel.peering.deny_list.DENY_LIST_BYTES_MAX", len(document) - 1)
    found = DenyList.parse(document, COMPANY)
    assert (found.serials, found.told_number) == ({7, 8}, b"")


# The list in force


async def inline(function, *args):
    await trio.lowlevel.checkpoint()
    return function(*args)


def company_member(mode=Mode.HARDENED):
    member = Membership.closed(Identity.generate(), new_join_token())
    return replace(member, mode=mode, authority=COMPANY, issued=True)


def live(kept=None, file=None, mode=Mode.HARDENED):
    """A node whose `cluster.crl`, if it has one, is `file[0]`."""
    member = company_member(mode)

    def load():
        return Memberships(member, denied=DenyList.parse(file[0], COMPANY) if file else DenyList())

    return LiveMembership(load, inline, kept)


async def checked(member):
    """A few looks at the files later."""
    with trio.move_on_after(11):
        await member.run(lambda _: None)
    return member.now.denied.number


async def test_only_a_higher_number_replaces_a_list_whoever_brings_it(autojump_clock):
    file = [der(3, 7)]
    node = live(file=file)
    assert not await node.learn(der(2))
    assert not await node.learn(der(3))
    assert node.now.denied.serials == {7}
    assert await node.learn(der(4, 7, 8))
    assert await checked(node) == 4, "the file is older, and does not bring the former list back"
    file[0] = der(5, 8)
    assert await checked(node) == 5
    with pytest.raises(ValueError, match="did not sign"):
        await node.learn(der(9, key=STRANGERS_KEY))
    assert node.now.denied.serials == {8}


async def test_the_newest_list_is_in_force_after_a_restart_also_where_no_file_is_set(autojump_clock, tmp_path):
    kept = tmp_path / "deny-list.der"
    node = live(kept)
    await node.learn(der(4, 7))
    assert await checked(node) == 4
    assert live(kept).now.denied.serials == {7}
    assert live(kept, [der(3)]).now.denied.number == 4
    assert live(kept, [der(6)]).now.denied.number == 6
    kept.write_bytes(der(9, key=STRANGERS_KEY))
    assert live(kept).now.denied == DenyList()


async def test_a_disk_that_does_not_take_the_list_does_not_end_the_node(autojump_clock, tmp_path):
    node = live(tmp_path / "missing" / "deny-list.der")
    await node.learn(der(4, 7))
    assert await checked(node) == 4


async def test_in_a_closed_cluster_where_each_member_has_the_authoritys_key_no_list_counts():
    with pytest.raises(ValueError, match="any member"):
        await live(mode=Mode.CLOSED).learn(der(4, 7))


async def test_a_renewed_certificate_takes_hold_beside_an_older_file(autojump_clock):
    member = company_member()
    renewed = replace(member, certificate=authority(KEY), tag=member.tag)
    found = [Memberships(member, denied=DenyList.parse(der(3), COMPANY))]
    node = LiveMembership(lambda: found[0], inline)
    await node.learn(der(4, 7))
    found[0] = replace(found[0], current=renewed)
    assert await checked(node) == 4
    assert node.now.current is renewed


# Between nodes


async def chain(memory_node, *judges):
    """Each knows the one before alone."""
    nodes = []
    for judge in judges:
        nodes.append(await memory_node(judge=judge))
        if len(nodes) > 1:
            nodes[-1].hear_of(nodes[-2])
            await nodes[-1].events.until_linked()
    return nodes


async def test_what_one_node_is_told_all_know_a_few_heartbeats_later(autojump_clock, memory_node):
    members = [live() for _ in range(4)]
    await chain(memory_node, *members)
    await members[0].learn(der(4, *range(2**150, 2**150 + 5000)))
    await trio.sleep(3 * HEARTBEAT_S + 1)
    assert [len(each.now.denied.serials) for each in members] == [5000] * 4
    await members[3].learn(der(5))
    await trio.sleep(3 * HEARTBEAT_S + 1)
    assert [each.now.denied.number for each in members] == [5] * 4


async def test_a_node_without_an_authority_is_told_nothing_and_asks_for_nothing(autojump_clock, memory_node):
    judge = live()
    one, two = await chain(memory_node, judge, None)
    await judge.learn(der(4, 7))
    await trio.sleep(3 * HEARTBEAT_S)
    assert (one.peering.linked(), two.peering.linked()) == ([two.id], [one.id])


class Liar:
    """Names a list that nobody has, and gives what it likes."""

    def __init__(self, document):
        self.deny_list = replace(DenyList.parse(der(9), COMPANY), document=document)


@pytest.mark.parametrize(
    "document", [b"x" * 200_000, der(9, key=STRANGERS_KEY), der(2, 7), der(9, extension=x509.DeltaCRLIndicator(1))]
)
async def test_a_liar_changes_nothing_and_is_seldom_asked(autojump_clock, memory_node, document):
    honest = live(file=[der(3, 7)])
    asked = []
    learn, honest.learn = honest.learn, lambda document: asked.append(document) or learn(document)
    one, two = await chain(memory_node, honest, Liar(document))
    await trio.sleep(4 * DENY_LIST_RETRY_S)
    assert honest.now.denied == DenyList.parse(der(3, 7), COMPANY)
    assert 2 <= len(asked) <= 5
    assert one.peering.linked() == [two.id]
