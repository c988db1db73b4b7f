"""How hubs ask for patience, and what addresses they may send us to."""

from __future__ import annotations

import pytest
import trio

from p2pmodel.limits import HUB_HEARSAY_MAX_S
from p2pmodel.upstream.patience import Patience, asked_for
from p2pmodel.upstream.url import Url, is_global, is_local_name


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (200, {}, None),
        (200, {"retry-after": "9"}, None),
        (200, {"ratelimit": '"api";r=499;t=295'}, None),
        (200, {"ratelimit": '"api";r=0;t=295'}, 295),
        (200, {"ratelimit": '"api";r=10;t=295, "resolvers";r=0;t=7'}, 7),
        (200, {"ratelimit": "limit=100, remaining=0, reset=5"}, 5),
        (302, {"ratelimit": '"resolvers";r=0;t=12'}, 12),
        (429, {}, 10),
        (429, {"retry-after": "9"}, 9),
        (429, {"retry-after": "0"}, 0),
        (429, {"retry-after": "9" * 30}, 999_999_999),
        (429, {"retry-after": "-5"}, 10),
        (429, {"retry-after": "soon", "ratelimit": '"api";r=0;t=33'}, 33),
        (429, {"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        (429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:30 GMT"}, 0),
        (429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10),
        (503, {"retry-after": "4"}, 4),
        (503, {}, None),
    ],
)
def test_patience_is_asked_for_in_many_ways(status, headers, seconds):
    assert asked_for(status, headers) == seconds


async def test_a_budget_that_is_spent_rests_what_is_counted_in_it(autojump_clock):
    heard = []
    patience = Patience(lambda host, seconds: heard.append((host, seconds)))
    patience.heed("hub", 206, {"ratelimit": '"resolvers";r=2000;t=100'}, "files")
    patience.heed("hub", 200, {"ratelimit": '"api";r=0;t=200'})
    assert (patience.until("hub"), patience.until("hub", "files")) == (trio.current_time() + 200, 0)
    assert heard == [("hub", 200)]
    patience.heed("hub", 429, {"ratelimit": '"resolvers";r=0;t=7'}, "files")
    assert patience.until("hub", "files") == trio.current_time() + 7
    await trio.sleep(7)
    assert patience.until("hub", "files") == 0


async def test_what_is_said_of_no_budget_rests_everything(autojump_clock):
    patience = Patience(lambda host, seconds: None)
    patience.heed("hub", 200, {"ratelimit": '"resolvers";r=2000;t=100'}, "files")
    patience.heed("hub", 200, {"ratelimit": '"api";r=400;t=100'})
    patience.heed("hub", 503, {"retry-after": "5"})
    assert patience.until("hub", "files") == patience.until("hub") == trio.current_time() + 5
    assert patience.until("other") == 0


async def test_a_peers_word_rests_files_for_a_while_and_is_not_believed_for_ever(autojump_clock):
    patience = Patience(lambda host, seconds: None)
    kept = 0
    for _ in range(3600):
        patience.hearsay("hub", 86_400.0)
        kept += patience.heard("hub") > 0
        assert patience.until("hub", "files") == patience.until("hub") == 0
        await trio.sleep(1)
    assert 0 < kept <= 1800
    await trio.sleep(HUB_HEARSAY_MAX_S)
    patience.hearsay("hub", 1.0)
    patience.heed("hub", 429, {"retry-after": "5"})
    await trio.sleep(5)
    patience.hearsay("hub", 60.0)  # the last time it was so
    assert patience.heard("hub") == trio.current_time() + 60


async def test_a_kind_of_question_that_was_never_answered_may_be_counted_in_any_budget(autojump_clock):
    patience = Patience(lambda host, seconds: None)
    patience.heed("hub", 200, {"ratelimit": '"api";r=0;t=100'})
    assert patience.until("hub", "files") == trio.current_time() + 100


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/c?d", "https://hub.example/c?d"),
        ("c", "https://hub.example/a/c"),
        ("//cdn.example/c", "https://cdn.example/c"),
        ("https://HUB.example:443/c#part", "https://hub.example/c"),
        ("http://hub.example:443/c", "http://hub.example:443/c"),
        ("https://[2606:4700::1]:8443", "https://[2606:4700::1]:8443/"),
        ("/na\xefve file", "https://hub.example/na%EFve%20file"),
        ("/a%2Fb+c?x=%2B", "https://hub.example/a%2Fb+c?x=%2B"),
    ],
)
def test_a_location_is_resolved_where_it_was_said(location, leads_to):
    assert str(Url.parse("https://hub.example/a/b?q").join(location)) == leads_to


@pytest.mark.parametrize(
    "text", ["", "hub.example", "https://", "file:///x", "https://a@b/", "https://b:99999/", "https://\xe9.example/"]
)
def test_what_is_no_plain_web_address_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        Url.parse(text)


def test_only_the_internets_addresses_are_global():
    assert all(map(is_global, ["151.101.1.1", "2606:4700::1", "::ffff:151.101.1.1"]))
    inside = [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
    ]
    inside += ["::1", "::", "fe80::1", "fc00::1", "::ffff:10.0.0.1", "224.0.0.251", "ff02::fb", "fe80::1%eth0"]
    assert not any(map(is_global, inside))


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "a.localhost", "127.0.0.1", "127.0.0.1.", "127.1", "2130706433", "0x7f.1", "0", "10.1"]
)
@pytest.mark.parametrize("dot", ["", "."])
def test_what_a_proxy_would_find_on_its_own_lan_is_no_host_of_the_internet(host, dot):
    assert is_local_name(host + dot)
    assert all(map(is_local_name, ["metadata", "metadata.google.internal", "printer.local", "::1", "::ffff:10.0.0.1"]))


def test_other_names_may_be():
    others = ["cdn.example", "cdn.example.", "151.101.1.1", "2540241153", "2606:4700::1", "localhost.example"]
    assert not any(map(is_local_name, others))
