"""The gateway over TLS: with a certificate of its own making, for clients that cannot ask plain http of localhost."""

import ssl
import stat

import pytest
import trio
import trio.testing
from cryptography import x509

from p2pmodel.errors import ConfigError
from p2pmodel.gateway import certificate, load_certificate
from p2pmodel.limits import INTERIM_INTERVAL_S, VIGIL_S

TARGET = "/api/v1/models/org/model/repo?Revision=master&FilePath=w.bin"
DATA = bytes(range(256)) * 4096  # several pieces


@pytest.fixture
def own(tmp_path):
    return load_certificate(tmp_path / "tls", [])


@pytest.fixture
async def secured(own, start_gateway):
    async with start_gateway(certificate=own) as rig:
        rig.add("org/model", {"w.bin": DATA}, hub="modelscope")
        yield rig


async def test_a_file_comes_whole_and_by_range_as_over_plain_http(secured, own):
    client = await secured.connect_over_tls(own.authority)
    whole = await client.get(TARGET)
    assert (whole.status, whole.body == DATA) == (200, True)
    part = await client.get(TARGET, "Range: bytes=300000-900000")
    assert (part.status, part.body) == (206, DATA[300000:900001])
    assert (await secured.get(TARGET)).body == DATA


async def test_a_client_that_leaves_in_the_middle_of_a_file_leaves_nothing_behind(secured, own):
    secured.add("org/model", {"w.bin": bytes(24 << 20)}, hub="modelscope")
    client = await secured.connect_over_tls(own.authority)
    await client.get(TARGET, read=False)
    await client.take(1000)
    await trio.aclose_forcefully(client.stream)
    await secured.delivery.left.wait()
    assert (await secured.get("/healthz")).status == 200


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
async def test_every_name_of_loopback_is_certified_and_no_other(secured, own, name):
    assert (await (await secured.connect_over_tls(own.authority, name)).get("/healthz")).status == 200
    with pytest.raises(trio.BrokenResourceError) as broken:
        await secured.connect_over_tls(own.authority, "example.org")
    assert isinstance(broken.value.__cause__, ssl.SSLCertVerificationError)


async def test_links_to_the_hub_become_links_to_the_door_that_was_used(secured, own):
    secured.upstreams.headers = [("Link", '<{endpoint}/api/models?cursor=2>; rel="next"')]
    client = await secured.connect_over_tls(own.authority)
    link = f"<https://localhost:{client.port}/api/models?cursor=2>"
    assert (await client.get("/api/models")).headers["link"].startswith(link)


async def test_a_web_page_may_not_ask_over_tls_either(secured, own):
    client = await secured.connect_over_tls(own.authority)
    assert (await client.get("/healthz", "Origin: https://evil.example")).status == 403
    assert (await client.get("/healthz", host="evil.example")).status == 421


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_who_speaks_no_tls_is_sent_away(secured, own, said):
    async with await trio.open_tcp_stream("127.0.0.1", secured.tls_port) as stream:
        await stream.send_all(said)
        with trio.fail_after(5):
            while await stream.receive_some():
                pass
    assert secured.gateway.statistics.broken == 1
    assert (await (await secured.connect_over_tls(own.authority)).get("/healthz")).status == 200


async def pass_time(clock, seconds):
    for _ in range(round(seconds / VIGIL_S)):
        clock.jump(VIGIL_S)
        for _ in range(10):
            await trio.testing.wait_all_tasks_blocked()


async def test_a_waiting_client_is_kept_alive_and_noticed_when_it_leaves(secured, own, mock_clock):
    secured.delivery.gate = trio.Event()
    stays, leaves = [await secured.connect_over_tls(own.authority) for _ in range(2)]
    for client in (stays, leaves):
        await client.get(TARGET, "User-Agent: python-requests/2", read=False)
    await trio.testing.wait_all_tasks_blocked()
    await pass_time(mock_clock, INTERIM_INTERVAL_S + VIGIL_S)
    assert (await stays.interim(), await leaves.interim()) == (100, 100)
    await leaves.stream.aclose()  # with TLS's goodbye before its FIN
    await pass_time(mock_clock, 2 * VIGIL_S)
    assert secured.gateway.statistics.gone == 1
    secured.delivery.gate.set()
    assert (await stays.answer()).body == DATA


# The certificate


def test_it_is_made_once_and_what_could_sign_others_is_not_kept(tmp_path, own):
    before = own.authority.read_bytes()
    again = load_certificate(tmp_path / "tls", [])
    assert again.authority.read_bytes() == before
    keys = [file.name for file in (tmp_path / "tls").iterdir() if b"PRIVATE KEY" in file.read_bytes()]
    assert keys == ["gateway.pem"]
    assert stat.S_IMODE((tmp_path / "tls/gateway.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(own.bundle.stat().st_mode) == 0o644
    leaf = x509.load_pem_x509_certificate((tmp_path / "tls/gateway.pem").read_bytes())
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_bundle_holds_the_systems_authorities_as_well(own):
    system = ssl.get_default_verify_paths().cafile
    bundle = own.bundle.read_bytes()
    assert bundle.endswith(own.authority.read_bytes())
    if system:
        assert bundle.count(b"BEGIN CERTIFICATE") > 1


@pytest.mark.parametrize("name", ["models.lan", "10.0.0.7", "models.lan:7443", "[fd00::7]:7443"])
def test_a_new_name_gets_a_new_certificate(tmp_path, own, name):
    before = own.authority.read_bytes()
    fresh = load_certificate(tmp_path / "tls", [name])
    assert fresh.authority.read_bytes() != before
    kept = fresh.authority.read_bytes()
    assert load_certificate(tmp_path / "tls", [name]).authority.read_bytes() == kept


def test_what_ends_soon_or_is_damaged_is_made_anew(tmp_path, own, monkeypatch):
    before = own.authority.read_bytes()
    monkeypatch.setattr(certificate, "_RENEWED_BEFORE", certificate._VALID)
    renewed = load_certificate(tmp_path / "tls", []).authority.read_bytes()
    monkeypatch.undo()
    (tmp_path / "tls/gateway.pem").write_text("damaged")
    assert len({before, renewed, load_certificate(tmp_path / "tls", []).authority.read_bytes()}) == 3


def test_a_directory_that_cannot_be_had_is_a_sentence(tmp_path):
    (tmp_path / "tls").write_text("in the way")
    with pytest.raises(ConfigError, match="certificate of the gateway"):
        load_certificate(tmp_path / "tls", [])


@pytest.mark.scorecard("S12")
async def test_a_client_that_does_not_end_its_handshake_makes_way(start_gateway, own):
    async with (
        start_gateway(certificate=own, clients_max=1) as rig,
        await trio.open_tcp_stream("127.0.0.1", rig.tls_port) as slow,
    ):
        await slow.send_all(b"\x16\x03\x01\x02\x00")
        with trio.fail_after(2):
            assert (await (await rig.connect_over_tls(own.authority)).get("/healthz")).status == 200
        assert await slow.receive_some() == b""
