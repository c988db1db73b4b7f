import base64

import pytest

from p2pmodel.gateway.gate import Gate, hosts_of, names_of
from p2pmodel.gateway.request import Request

HOSTS = hosts_of(7276, ["model-box.lan"])
OWN = ("host", "localhost:7276")


def verdict(*headers, token=None, method="GET", **facts):
    refused = Gate(HOSTS, token).check(Request(method, "/", list(headers), **facts))
    return refused.status if refused else None


@pytest.mark.parametrize(
    "host", ["localhost:7276", "127.0.0.1:7276", "[::1]:7276", "LOCALHOST:7276", "model-box.lan", "model-box.lan:7276"]
)
def test_our_own_names_pass(host):
    assert verdict(("host", host)) is None


@pytest.mark.parametrize(
    "host", ["evil.example:7276", "localhost", "localhost:80", "127.0.0.1.nip.io:7276", "", "localhost:7276.evil.example"]
)
def test_any_other_name_is_misdirected(host):
    assert verdict(("host", host)) == 421


def test_a_request_without_a_host_is_misdirected():
    assert verdict() == 421


def test_port_80_is_left_out_by_clients():
    assert "localhost" in hosts_of(80)
    assert "localhost" not in hosts_of(7276)


SITE = "sec-fetch-site"
HOSTILE = {
    "fetch": [("origin", "https://evil.example"), (SITE, "cross-site")],
    "no-cors fetch": [(SITE, "cross-site"), ("sec-fetch-mode", "no-cors")],
    "img": [(SITE, "cross-site"), ("sec-fetch-dest", "image")],
    "script": [(SITE, "cross-site"), ("sec-fetch-dest", "script")],
    "iframe": [(SITE, "cross-site"), ("sec-fetch-dest", "iframe")],
    "form": [("origin", "null"), (SITE, "cross-site")],
    "websocket": [("origin", "https://evil.example"), ("upgrade", "websocket")],
    "preflight": [("origin", "https://evil.example"), ("access-control-request-method", "PUT")],
    "put": [("origin", "https://evil.example")],
    "same site, other port": [(SITE, "same-site")],
    "another service of this machine": [("origin", "http://localhost:3000"), (SITE, "same-site")],
}


@pytest.mark.parametrize("shape", HOSTILE)
def test_what_a_web_page_sends_is_forbidden(shape):
    assert verdict(OWN, *HOSTILE[shape]) == 403


BROWSER = (
    "user-agent",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
)
ADDRESS = ("host", "192.0.2.7:7276")
REACHED = {"reached": frozenset({"192.0.2.7:7276"})}


@pytest.mark.parametrize("agent", ["curl/8.5.0", "unknown/None; hf_hub/2.4.0; python/3.11.7", "", None])
def test_the_address_at_which_a_client_reached_us_names_us(agent):
    headers = [("user-agent", agent)] if agent is not None else []
    assert verdict(ADDRESS, *headers, **REACHED) is None
    assert verdict(("host", "192.0.2.8:7276"), *headers, **REACHED) == 421
    assert verdict(("host", "192.0.2.7"), *headers, **REACHED) == 421
    assert verdict(("host", "192.0.2.7.nip.io:7276"), *headers, **REACHED) == 421


@pytest.mark.parametrize("shape", HOSTILE)
def test_what_a_web_page_sends_to_our_address_over_plain_http_is_refused_though_browsers_mark_it_less(shape):
    """As Chromium 156 sends it: Sec-Fetch-* goes to loopback and https alone."""
    sent = [header for header in HOSTILE[shape] if not header[0].startswith("sec-fetch")]
    assert verdict(ADDRESS, BROWSER, *sent, **REACHED) == 421


@pytest.mark.parametrize("shape", HOSTILE)
def test_what_a_web_page_sends_to_our_address_over_tls_is_forbidden(shape):
    assert verdict(ADDRESS, BROWSER, *HOSTILE[shape], scheme="https", **REACHED) in {403, 421}


NAMED = ("host", "model-box.lan:7276")


@pytest.mark.parametrize("shape", HOSTILE)
def test_what_a_web_page_sends_to_a_configured_name_over_plain_http_is_forbidden(shape):
    sent = [header for header in HOSTILE[shape] if not header[0].startswith("sec-fetch")]
    assert verdict(NAMED, BROWSER, *sent) == 403


@pytest.mark.parametrize(
    ("path", "status"), [("/-/", None), ("/-/api/status", None), ("/-/api/fetch", 403), ("/a/b/resolve/main/c", 403)]
)
def test_by_a_configured_name_a_browser_sees_what_changes_nothing(path, status):
    gate = Gate(HOSTS, harmless=frozenset({"/-/", "/-/api/status"}))
    refused = gate.check(Request("GET", path, [NAMED, BROWSER]))
    assert (refused and refused.status) == status
    assert gate.check(Request("GET", path, [NAMED, ("user-agent", "curl/8.5.0")])) is None
    assert gate.check(Request("GET", path, [OWN, BROWSER])) is None, (
        "to loopback it marks what pages ask; old ones mark nothing"
    )
    assert gate.check(Request("GET", path, [NAMED, BROWSER, (SITE, "none")], scheme="https")) is None


def test_a_browser_at_our_address_passes_where_it_says_who_asks():
    assert verdict(ADDRESS, BROWSER, (SITE, "none"), scheme="https", **REACHED) is None
    assert (
        verdict(ADDRESS, BROWSER, ("origin", "https://192.0.2.7:7276"), (SITE, "same-origin"), scheme="https", **REACHED)
        is None
    )


class Connected:
    def __init__(self, *name):
        self.name = name

    def getsockname(self):
        return self.name


@pytest.mark.parametrize(
    ("sock", "scheme", "names"),
    [
        (Connected("192.0.2.7", 7276), "http", {"192.0.2.7:7276"}),
        (Connected("192.0.2.7", 80), "http", {"192.0.2.7:80", "192.0.2.7"}),
        (Connected("192.0.2.7", 443), "https", {"192.0.2.7:443", "192.0.2.7"}),
        (Connected("2001:db8::7", 7276, 0, 0), "http", {"[2001:db8::7]:7276"}),
        (Connected("::ffff:192.0.2.7", 7276, 0, 0), "http", {"192.0.2.7:7276"}),
        (Connected("fe80::7%eth0", 7276, 0, 2), "http", {"[fe80::7]:7276"}),
        (Connected(), "http", set()),
    ],
)
def test_an_address_is_named_as_clients_write_it(sock, scheme, names):
    assert names_of(sock, scheme) == names


def test_our_own_page_passes():
    assert verdict(OWN, (SITE, "same-origin")) is None
    assert verdict(OWN, ("origin", "http://localhost:7276"), (SITE, "same-origin")) is None
    assert verdict(OWN, (SITE, "none")) is None


def basic(password):
    return "Basic " + base64.b64encode(f"user:{password}".encode()).decode()


@pytest.mark.parametrize(
    "shown",
    [("x-p2pmodel-token", "s3cret"), ("authorization", "Bearer s3cret"), ("authorization", basic("s3cret"))],
)
def test_the_gateway_token_is_taken_where_a_client_can_put_it_and_goes_no_further(shown):
    assert verdict(OWN, shown, token="s3cret") is None
    kept = Gate(HOSTS, "s3cret").without_token(Request("GET", "/", [OWN, shown]))
    assert list(kept.headers) == [OWN]


@pytest.mark.parametrize(
    "shown",
    [
        ("x-p2pmodel-token", "wrong"),
        ("authorization", "Bearer wrong"),
        ("authorization", "Basic %%%"),
        ("authorization", "s3cret"),
        ("accept", "*/*"),
        ("authorization", "Bearer sécret"),
    ],
)
def test_without_the_token_nobody_passes(shown):
    assert verdict(OWN, shown, token="s3cret") == 401


@pytest.mark.parametrize(("path", "status"), [("/healthz", None), ("/readyz", None), ("/metrics", 401), ("/healthz/x", 401)])
def test_whether_the_node_is_well_is_no_secret(path, status):
    refused = Gate(HOSTS, "s3cret").check(Request("GET", path, [OWN]))
    assert (refused and refused.status) == status


def test_the_hubs_token_stays_beside_our_own():
    request = Request("GET", "/", [OWN, ("x-p2pmodel-token", "s3cret"), ("authorization", "Bearer hf_abc")])
    assert Gate(HOSTS, "s3cret").without_token(request).access.token == "hf_abc"


def test_no_token_shows_in_a_repr():
    assert "s3cret" not in repr(Gate(HOSTS, "s3cret"))
    assert "s3cret" not in repr(Request("GET", "/", [("authorization", "Bearer s3cret")]))


def test_links_that_prove_themselves_need_no_token_but_a_name_and_no_web_page():
    gate = Gate(HOSTS, "secret", ("/-/parts/",))

    def check(path, *headers):
        refused = gate.check(Request("PUT", path, list(headers)))
        return refused.status if refused else None

    assert check("/-/parts/x", OWN) is None
    assert check("/-/part", OWN) == check("/", OWN) == 401
    assert check("/-/parts/x", ("host", "evil.example")) == 421
    assert check("/-/parts/x", *HOSTILE["fetch"], OWN) == 403
