import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from p2pmodel.content.naming import node_id_of
from p2pmodel.errors import ConfigError
from p2pmodel.peering import Identity, Membership, TlsSecure, new_join_token, parse_join_token
from p2pmodel.peering.membership import certified_node, read_certificate


def der(certificate):
    return certificate.public_bytes(Encoding.DER)


def test_a_nodes_key_is_made_once_and_closed_to_others(tmp_path):
    first, again = Identity.load(tmp_path), Identity.load(tmp_path)
    assert first.node == again.node == node_id_of(first.public)
    key = tmp_path / "identity" / "node.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700


def test_a_nodes_other_keys_are_the_same_after_every_start_and_one_for_each_purpose(tmp_path):
    first, again = Identity.load(tmp_path), Identity.load(tmp_path)
    assert first.secret(b"one") == again.secret(b"one") != first.secret(b"two")
    assert Identity.generate().secret(b"one") != first.secret(b"one")


def test_a_key_that_others_can_read_is_refused(tmp_path):
    Identity.load(tmp_path)
    (tmp_path / "identity" / "node.key").chmod(0o640)
    with pytest.raises(ConfigError, match="closed to others"):
        Identity.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_damaged_key_is_refused_with_the_way_out(tmp_path, content):
    Identity.load(tmp_path)
    (tmp_path / "identity" / "node.key").write_bytes(content)
    with pytest.raises(ConfigError, match="damaged") as caught:
        Identity.load(tmp_path)
    assert "new id" in caught.value.next_step


def test_a_key_behind_a_link_is_refused(tmp_path):
    Identity.load(tmp_path)
    key = tmp_path / "identity" / "node.key"
    key.rename(tmp_path / "elsewhere")
    key.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="out of reach"):
        Identity.load(tmp_path)


def test_an_identity_does_not_print_its_key():
    identity = Identity.generate()
    assert identity.key.private_bytes_raw().hex() not in repr(identity) + repr(Membership.open(identity))


def test_a_join_token_carries_its_secret_in_any_case_and_with_white_space():
    token = new_join_token()
    secret = parse_join_token(token)
    assert len(secret) == 32
    assert token == token.lower()
    assert parse_join_token(f"  {token.upper()}\n") == secret
    assert new_join_token() != token


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: "",
        lambda token: token[:-1],
        lambda token: token[1:],
        lambda token: token + "a",
        lambda token: token[:10] + "0" + token[11:],
        lambda token: token[:10] + ("b" if token[10] == "a" else "a") + token[11:],
        lambda token: "é" * 64,
    ],
)
def test_a_token_with_a_mistake_is_refused_and_not_repeated(spoil):
    spoilt = spoil(new_join_token())
    with pytest.raises(ConfigError) as caught:
        parse_join_token(spoilt)
    assert not spoilt or spoilt not in str(caught.value) + caught.value.next_step


def test_members_derive_the_same_authority_and_others_another():
    token = new_join_token()
    one, two = (Membership.closed(Identity.generate(), token) for _ in range(2))
    other = Membership.closed(Identity.generate(), new_join_token())
    open_one, open_two = (Membership.open(Identity.generate()) for _ in range(2))
    assert der(one.authority) == der(two.authority)
    assert der(open_one.authority) == der(open_two.authority)
    assert len({each.tag for each in (one, other, open_one)}) == 3
    assert one.tag == two.tag
    assert one.filter_key == two.filter_key != other.filter_key
    assert open_one.filter_key is None


def test_the_open_clusters_authority_is_what_the_protocol_says():
    """Another implementation must come to the same bytes (protocol/opening.md)."""
    assert Membership.open(Identity.generate()).tag == "5a1e8eea9436f214"


def test_a_certificate_is_believed_only_under_the_name_of_its_own_key():
    member = Membership.open(Identity.generate())
    assert certified_node(member.certificate) == member.identity.node
    with pytest.raises(ValueError, match="not the id"):
        certified_node(member.authority)


@pytest.fixture
def hardened(tmp_path):
    """An existing authority and a certificate by it, as files; `name` overrides the common name."""

    def make(name=None):
        ca_key, key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        ca = signed("a company", ca_key, "a company", ca_key, authority=True)
        cert = signed(name or Identity(key).node, key, "a company", ca_key, authority=False)
        files = {"ca": tmp_path / "ca.pem", "cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
        files["ca"].write_bytes(ca.public_bytes(Encoding.PEM))
        files["cert"].write_bytes(cert.public_bytes(Encoding.PEM))
        files["key"].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    return make


def signed(subject, key, issuer, issuer_key, *, authority):
    name = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])  # noqa: E731
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), 7, now, now + dt.timedelta(days=1))
    return (
        builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, None)
    )


def test_a_hardened_cluster_takes_certificate_and_key_from_files(hardened):
    files = hardened()
    member = Membership.hardened(**files)
    assert member.mode == "hardened"
    assert certified_node(member.certificate) == member.identity.node
    TlsSecure(member)


def test_a_certificate_of_another_name_or_missing_files_are_refused(hardened, tmp_path):
    with pytest.raises(ConfigError, match="not the id"):
        Membership.hardened(**hardened(name="somebody"))
    with pytest.raises(ConfigError, match="readable PEM"):
        Membership.hardened(**{**hardened(), "ca": tmp_path / "missing"})


def test_contexts_speak_tls_1_3_alone_and_want_a_certificate_of_both_sides():
    secure = TlsSecure(Membership.open(Identity.generate()))
    for context in (secure._client, secure._server):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.verify_flags & ssl.VERIFY_X509_STRICT


def of_version(number, identity, authority_key):
    """A node's certificate that says that it is of another version: rightly signed, so TLS itself takes it."""
    issuer = Membership.open(identity).authority.subject
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.node)])
    begin, end = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (2020, 2119))
    made = x509.CertificateBuilder(issuer, name, identity.key.public_key(), 7, begin, end).sign(authority_key, None)
    signed_part = made.tbs_certificate_bytes.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01" + bytes([number]))
    signature = authority_key.sign(signed_part)
    body = signed_part + bytes.fromhex("300506032b6570") + b"\x03\x41\0" + signature
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize(("number", "fine"), [(2, True), (1, False), (17, False)])
def test_a_certificate_of_an_odd_version_is_no_certificate_and_no_bug(number, fine):
    """`cryptography` has an error of its own for it; strangers of an open cluster can sign what they like."""
    identity, key = Identity.generate(), Ed25519PrivateKey.generate()
    document = of_version(number, identity, key)
    if fine:
        assert read_certificate(document)[1] == identity.node
    else:
        with pytest.raises(ValueError, match="not a node's certificate"):
            read_certificate(document)
