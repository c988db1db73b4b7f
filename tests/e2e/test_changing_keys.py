"""A cluster changes its key, or denies a node, while its daemons run and fetch."""

import datetime as dt
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from daemons import MIB, files_in, finish, until
from noise import noise

from p2pmodel.content.naming import node_id_of

MODEL = {"config.json": b"{}", "model.safetensors": noise(5, 24 * MIB)}
GRACE_S = 6
_SIGNS_ALONE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)

pytestmark = [pytest.mark.scorecard("S34"), pytest.mark.attacks]  # half a minute of waiting for keys to run out


@pytest.fixture(scope="module", autouse=True)
def _a_model(site):
    site.hub.add_repo("model", "acme/open", MODEL)


def peers(node):
    return {peer["node_id"] for peer in node.ask("/-/api/peers").json["peers"]}


def id_of(node):
    return node.ask("/-/api/status").json["node_id"]


def test_a_key_is_changed_under_a_fetch_and_who_was_not_given_the_new_one_is_out(site, house, tmp_path):
    token = house.user.run("cluster", "init", "--key-file", tmp_path / "one").out.strip()
    for name in ("two", "late"):
        (tmp_path / name).write_text(token)
    one = house.daemon("one", cluster__key_file=str(tmp_path / "one"))
    two = house.daemon("two", [one], cluster__key_file=str(tmp_path / "two"), limits__peer_download="1500KB/s")
    late = house.daemon("late", [one], cluster__key_file=str(tmp_path / "late"))
    one.bring("acme/open")
    site.hub.reset()
    fetch = two.begin_command("fetch", "acme/open", "--json")

    done = one.command("cluster rotate", "--grace", f"{GRACE_S}s")
    assert done.code == 0, done.err
    fresh = done.out.strip()
    assert fresh != token
    assert one.command("cluster rotate").code == 2, "a second change before the first is over"
    until(lambda: one.ask("/-/api/status").json["former_key_until"], "the daemon to read its key again")
    assert "the former one lets nodes in until" in one.command("status").out
    assert two.command("cluster rotate", fresh, "--grace", f"{GRACE_S}s").code == 0
    assert id_of(late) in peers(one), "both keys let nodes in"
    (tmp_path / "new").write_text(fresh)
    new = house.daemon("new", [one], cluster__key_file=str(tmp_path / "new"))
    assert new.bring("acme/open")["peers"] > 0
    site.hub.reset()

    until(lambda: one.ask("/-/api/status").json["former_key_until"] is None, "the former key to be out", 2 * GRACE_S + 10)
    until(lambda: peers(one) == {id_of(two), id_of(new)}, "those with the new key to be linked, and nobody else")
    ended = finish(fetch, 60)
    assert ended.code == 0, ended.err
    assert files_in(ended.json["path"]) == MODEL
    assert ended.json["peers"] > ended.json["upstream"]
    until(lambda: peers(late) == set(), "the other's grace to end as well", 2 * GRACE_S)
    assert one.command("cluster token").out.strip() == fresh


class Authority:
    """A company's certificate authority, in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.key = Ed25519PrivateKey.generate()
        self.serial = 100
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._sign("a company", self.key.public_key(), authority=True).public_bytes(Encoding.PEM))

    def member(self, name, **lasts):
        """Settings of a new member, and its serial number."""
        key = Ed25519PrivateKey.generate()
        public = key.public_key()
        cert = self._sign(node_id_of(public.public_bytes_raw()), public, authority=False, **lasts)
        files = {"cert": self.folder / f"{name}.pem", "key": self.folder / f"{name}.key"}
        files["cert"].write_bytes(cert.public_bytes(Encoding.PEM))
        files["key"].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        settings = {f"cluster__{key}": str(file) for key, file in files.items()}
        return {**settings, "cluster__mode": "hardened", "cluster__ca": str(self.ca)}, cert.serial_number

    def deny(self, number, *serials):
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateRevocationListBuilder(_name("a company"), now, now + dt.timedelta(days=1))
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        for serial in serials:
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, now).build())
        fresh = self.folder / "crl.new"
        fresh.write_bytes(builder.sign(self.key, None).public_bytes(Encoding.PEM))
        return str(fresh.rename(self.folder / "crl.pem"))

    def _sign(self, subject, public, *, authority, seconds=3600):
        self.serial += 1
        now = dt.datetime.now(dt.UTC)
        begin, end = now - dt.timedelta(days=1), now + dt.timedelta(seconds=seconds)
        builder = x509.CertificateBuilder(_name("a company"), _name(subject), public, self.serial, begin, end)
        if authority:
            builder = builder.add_extension(_SIGNS_ALONE, critical=True)
        return (
            builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, None)
        )


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def test_in_a_hardened_cluster_a_denied_node_is_cut_and_a_certificate_runs_out(house, tmp_path):
    company = Authority(tmp_path)
    crl = company.deny(1)
    first, second = (company.member(name) for name in ("first", "second"))
    brief = company.member("brief", seconds=15)
    one = house.daemon("hard-one", cluster__crl=crl, **first[0])
    two = house.daemon("hard-two", [one], **second[0])
    three = house.daemon("hard-three", [one], **brief[0])
    one.bring("acme/open")
    assert two.bring("acme/open")["upstream"] == 0
    assert one.command("status").out.count("is good until") == 1
    company.deny(2, second[1])
    until(lambda: id_of(two) not in peers(one), "the denied node to be cut", 60)
    company.deny(1)
    until(lambda: "older than the list in force" in one.log, "an old list to be refused")
    until(lambda: id_of(three) not in peers(one), "the certificate to run out", 60)
    two.linked(0)
    assert "1 certificate denied" in one.command("status").out
    assert "ran out on" in three.command("status").out


def test_a_list_that_one_node_has_cuts_a_node_everywhere_and_for_good(house, tmp_path):
    company = Authority(tmp_path)
    crl = company.deny(1)
    first, second, third = (company.member(name) for name in ("first", "second", "third"))
    one = house.daemon("told-one", cluster__crl=crl, **first[0])
    two = house.daemon("told-two", [one], **second[0])
    three = house.daemon("told-three", [one, two], **third[0])
    for node in (one, two):
        node.linked(2)
    began = time.monotonic()
    company.deny(2, third[1])
    for node, others in ((one, {id_of(two)}), (two, {id_of(one)}), (three, set())):
        until(lambda node=node, others=others: peers(node) == others, f"{node.folder.name} to have cut", 60)
    assert time.monotonic() - began < 60
    assert "1 certificate denied" in two.command("status").out
    for node in (one, two):
        node.stop()
    two.start()
    assert "1 certificate denied" in two.command("status").out, "nobody is there who could have told it anew"


def test_private_models_move_between_a_node_with_the_new_key_and_one_without(site, house, tmp_path):
    token = house.user.run("cluster", "init", "--key-file", tmp_path / "new").out.strip()
    (tmp_path / "old").write_text(token)
    site.hub.add_user("hf_alice", "alice")
    for name, seed in (("first", 6), ("second", 7)):
        site.hub.add_repo("model", f"acme/{name}", {"model.safetensors": noise(seed, 5 * MIB)}, private=True)
    new = house.daemon("with-the-new", cluster__key_file=str(tmp_path / "new"))
    assert new.command("cluster rotate").code == 0
    until(lambda: new.ask("/-/api/status").json["former_key_until"], "the daemon to read its key again")
    old = house.daemon("without-it", [new], cluster__key_file=str(tmp_path / "old"))
    for giver, taker, repo in ((new, old, "acme/first"), (old, new, "acme/second")):
        giver.fetch(repo, HF_TOKEN="hf_alice")
        assert taker.fetch(repo, HF_TOKEN="hf_alice")["upstream"] == 0
    for node in (new, old):
        node.stop()
