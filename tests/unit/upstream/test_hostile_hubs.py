"""What a hub, a mirror or a client can write that no library of ours reads: an error, never the end."""

import pytest

from p2pmodel.content import Access, Hub
from p2pmodel.delivery.ports import HubRequest
from p2pmodel.errors import P2pmodelError, SourceError
from p2pmodel.upstream.client import Document
from p2pmodel.upstream.connection import Wires, resolve
from p2pmodel.upstream.dialect import without_xet
from p2pmodel.upstream.patience import asked_for
from p2pmodel.upstream.url import Url


@pytest.mark.parametrize(
    "date", ["Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "Mon, 99999999999999999999 Jan 2024 00:00:00 GMT"]
)
def test_a_date_beyond_all_dates_names_no_time(date):
    assert asked_for(429, {"retry-after": date, "date": date}) == 10


@pytest.mark.parametrize("host", ["a..example", "a" * 64 + ".example"])
async def test_a_redirect_to_a_name_that_is_none_is_a_failure_of_the_hub(
    host, internet, hub, put, big, sink, router, autojump_clock
):
    file = put(big)

    async def really(name, port):  # this one asks nobody: such a name is refused before
        return await (resolve(name, port) if name == host else internet.resolve(name, port))

    internet.wires = Wires(resolve=really, dial=internet.dial)
    hub.fault("resolve", location=f"http://{host}/x")
    async with router() as opened:
        with pytest.raises(SourceError):
            await opened.source([file.location]).fetch(file.order(), sink)


async def test_a_token_or_header_beyond_ascii_is_sent_as_it_came(hub, router):
    hub.add_repo("model", "org/name", {"a.txt": b"hello"})
    asked = HubRequest(Hub.HUGGINGFACE, "GET", "/api/whoami-v2", [("X-Author", "Ren\xe9e"), ("Cookie", "a=\xe9")], None)
    async with router() as opened, await opened.pass_on(asked) as answer:
        assert answer.status == 401
    assert "whoami" in hub.log[-1].target


@pytest.mark.parametrize("token", ["hf_\xe9", "hf_…"])
async def test_a_token_that_no_hub_gave_is_refused_by_the_hub(token, hub, router, hf):
    hub.add_repo("model", "org/name", {"a.txt": b"hello"}, private=True)
    async with router() as opened:
        with pytest.raises(P2pmodelError):
            await opened.snapshot(hf, "main", Access(token))


@pytest.mark.parametrize("depth", [600, 100_000])
def test_json_nested_without_end_is_no_answer_of_a_hub(depth):
    document = Document(200, {}, b"[" * depth + b"]" * depth, Url.parse("http://hub.example/x"))
    with pytest.raises(P2pmodelError):
        without_xet(document.decode(object))


@pytest.mark.scorecard("S15")
@pytest.mark.parametrize("body", [b'{"sha": "\xff"}', b'["\xc3("]'])
def test_json_that_is_no_utf_8_is_no_answer_of_a_hub(body):
    document = Document(200, {}, body, Url.parse("http://hub.example/x"))
    for kind in (object, list[str], dict[str, str]):
        with pytest.raises(P2pmodelError):
            document.decode(kind)
