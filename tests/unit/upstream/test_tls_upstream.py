"""Hubs behind TLS: whose certificate is believed, whose bytes count as the hub's own, and no way back to plain http."""

from __future__ import annotations

import ssl

import pytest
import trio
import trustme

from p2pmodel.content import Access, Grade, Hub
from p2pmodel.errors import ConfigError, SourceError, UnavailableError


@pytest.fixture(scope="module")
def ca():
    return trustme.CA()


@pytest.fixture
def ca_file(ca, tmp_path):
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def secure(ca, internet):
    """Serve a name over TLS at an address of the internet."""

    def add(name, address, handle):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(name).configure_cert(context)

        async def handle_tls(stream):
            server = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            try:
                await server.do_handshake()
            except trio.BrokenResourceError:
                return
            await handle(server)

        internet.add(name, address, handle_tls, port=443)

    return add


async def test_the_hubs_own_host_over_tls_vouches_for_its_bytes(ca_file, secure, hub, put, big, sink, router, make_upstream):
    file = put(big)
    hub.add_user("hf_alice", "alice")
    secure("huggingface.co", "151.101.5.1", hub.server.handle)
    secure("cdn.example", "151.101.5.2", hub.cdn_server.handle)
    hub.storage.base_url = "https://cdn.example"
    async with router(make_upstream(endpoint="https://huggingface.co", trusted=False, ca_file=ca_file)) as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
        assert (await opened.snapshot(file.repo, "main", Access("hf_alice"))).commit == file.commit
    assert sink.body == big
    assert sink.grades == {Grade.OWN}


async def test_a_mirror_over_tls_vouches_for_nothing(ca_file, secure, hub, put, sink, router, make_upstream):
    file = put(b"{}", path="config.json")
    secure("mirror.example", "151.101.5.1", hub.server.handle)
    async with router(make_upstream(endpoint="https://mirror.example", trusted=False, ca_file=ca_file)) as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.grades == {Grade.MIRROR}


@pytest.mark.scorecard("S19")
async def test_https_never_leads_to_http(ca_file, internet, secure, hub, put, big, sink, router, make_upstream):
    file = put(big)
    secure("huggingface.co", "151.101.5.1", hub.server.handle)
    hub.storage.base_url = "http://cdn.example"
    async with router(make_upstream(endpoint="https://huggingface.co", ca_file=ca_file)) as opened:
        with pytest.raises(SourceError, match="from https to http"):
            await opened.source([file.location]).fetch(file.order(), sink)
    assert set(internet.dialled) == {"151.101.5.1"}


async def test_a_certificate_of_a_stranger_is_no_hub(
    autojump_clock, ca_file, internet, secure, hub, put, sink, router, make_upstream
):
    file = put(b"{}", path="config.json", token="hf_canary")
    secure("other.example", "151.101.5.1", hub.server.handle)
    internet.names["huggingface.co"] = ["151.101.5.1"]
    for authority in (None, ca_file):  # an unknown one; a known one that vouches for another name
        async with router(make_upstream(endpoint="https://huggingface.co", ca_file=authority)) as opened:
            with pytest.raises(UnavailableError, match=r"certificate is not trusted.*ca_file"):
                await opened.snapshot(file.repo, "main", Access("hf_canary"))
    assert hub.stats()["requests_total"] == 0


async def test_a_ca_file_that_cannot_be_read_is_a_config_error(tmp_path, router, make_upstream):
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(ConfigError, match="ca_file of upstream hub"):
            async with router(make_upstream(endpoint="https://hub.example", ca_file=tmp_path / name)):
                pass


def test_only_the_hubs_own_hosts_over_tls_are_trusted_by_themselves(make_upstream):
    own = {
        Hub.HUGGINGFACE: ["https://huggingface.co", "https://hf.co/", "https://HuggingFace.co"],
        Hub.MODELSCOPE: ["https://modelscope.cn", "https://www.modelscope.cn", "https://modelscope.ai"],
    }
    for hub, endpoints in own.items():
        for endpoint in endpoints:
            assert make_upstream(hub=hub, endpoint=endpoint, trusted=False).vouches
    for endpoint in (
        "http://huggingface.co",
        "https://huggingface.co.evil.example",
        "https://modelscope.cn",
        "https://hf-mirror.com",
    ):
        assert not make_upstream(endpoint=endpoint, trusted=False).vouches


async def test_tls_goes_through_a_proxy_by_connect(ca_file, internet, secure, hub, put, big, sink, router, make_upstream):
    file = put(big, private=True, token="hf_alice")
    hub.add_user("hf_alice", "alice")
    asked = []
    secure("huggingface.co", "151.101.5.1", hub.server.handle)
    hub.cdn = "direct"

    async def proxy(stream):
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(1)
        asked.append(head)
        await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await internet.handler("151.101.5.1", 443)(stream)

    internet.add("proxy.example", "10.0.0.9", proxy, port=3128)
    environment = {"https_proxy": "http://me:word@proxy.example:3128"}
    async with router(make_upstream(endpoint="https://huggingface.co", ca_file=ca_file), environment=environment) as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big
    assert set(internet.dialled) == {"10.0.0.9"}
    assert len(asked) == 1
    assert asked[0].startswith(b"CONNECT huggingface.co:443 ")
    assert b"Proxy-Authorization: Basic bWU6d29yZA==" in asked[0]
    assert b"hf_alice" not in asked[0]
