"""Many clients that start together: the hub is asked once for what they all want, within what it allows.

Each client does what hub clients do: it asks where the branch leads, for the list, and for each file its head and its bytes.
"""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
from daemons import MIB, House
from noise import noise

from p2pmodel.limits import REVISION_FRESH_S
from p2pmodel.peering.membership import new_join_token

pytestmark = pytest.mark.houses

FILES = {
    "config.json": b"{}",
    "model.safetensors.index.json": b"[]",
    "tokenizer.json": noise(1, 300_000),
    "model-00001-of-00002.safetensors": noise(2, 9 * MIB),
    "model-00002-of-00002.safetensors": noise(3, 5 * MIB),
}
SMALL = 3  # files that a hub keeps in git, and sends by a redirect of its own
MODEL = "acme/manners"


@pytest.fixture(scope="module")
def site(site):
    site.hub.add_repo("model", MODEL, FILES)
    site.hub.add_repo("model", "acme/scope", FILES)
    return site


@pytest.fixture(scope="module")
def closed(site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("closed")
    key = folder / "key"
    key.write_text(new_join_token() + "\n")
    key.chmod(0o600)
    with House(folder, site, {"cluster.key_file": str(key)}) as house:
        yield house


def members(house, count):
    nodes = []
    for number in range(count):
        nodes.append(house.daemon(f"of{count}-{number}", nodes))
    for node in nodes:
        node.linked(count - 1)
    return nodes


def huggingface_client(node):
    commit = said(node.ask(f"/api/models/{MODEL}/revision/main", patience_s=60)).json["sha"]
    listing = said(node.ask(f"/api/models/{MODEL}/tree/{commit}?recursive=true&expand=false", patience_s=60)).json
    assert {entry["path"] for entry in listing} == set(FILES)
    for path, data in FILES.items():
        target = f"/{MODEL}/resolve/{commit}/{path}"
        assert said(node.ask(target, method="HEAD", patience_s=60)).headers["x-repo-commit"] == commit
        assert said(node.ask(target, patience_s=60)).body == data


def modelscope_client(node):
    root = "/api/v1/models/acme/scope"
    said(node.ask(root, patience_s=60))
    said(node.ask(f"{root}/revisions", patience_s=60))
    listing = said(node.ask(f"{root}/repo/files?Revision=master&Recursive=True", patience_s=60)).json["Data"]["Files"]
    for path in (entry["Path"] for entry in listing):
        target = f"{root}/repo?{urlencode({'Revision': 'master', 'FilePath': path})}"
        assert said(node.ask(target, patience_s=60)).body == FILES[path]


def said(answer):
    assert answer.status == 200, answer.body
    return answer


def start_together(clients, nodes, client):
    """So many clients at each node, all in the same moment. How often a branch may have been asked for again meanwhile: on a
    machine that is busy with other things, the last of them begin when an answer to the first is no longer fresh."""
    began = time.monotonic()
    with ThreadPoolExecutor(clients * len(nodes)) as together:
        list(together.map(client, nodes * clients))
    return len(nodes) * int((time.monotonic() - began) // REVISION_FRESH_S)


def seen_by(hub):
    """Requests by route, and refusals."""
    stats = hub.stats()
    return Counter(stats["requests"]), stats["statuses"].get("429", 0)


def least(nodes):
    """What it takes: the commit with the list for each node, each file once."""
    resolved = {"GET hf resolve": len(FILES), "GET hf resolve-cache": SMALL, "GET cdn blob": len(FILES) - SMALL}
    return Counter({"GET hf info": nodes} | resolved)


def same(requests, expected, again, *freshened):
    """Whether these are the requests, but for what went stale meanwhile."""
    more = requests - expected
    return not expected - requests and set(more) <= set(freshened) and all(count <= again for count in more.values())


def test_many_clients_of_one_node_ask_the_hub_what_one_would(site, house):
    again = start_together(25, [house.daemon("one")], huggingface_client)
    requests, refused = seen_by(site.hub)
    assert same(requests, least(nodes=1), again, "GET hf info"), requests
    assert refused == 0


def test_many_modelscope_clients_of_one_node_ask_the_hub_what_one_would(site, house):
    again = start_together(25, [house.daemon("scope")], modelscope_client)
    probe = 1  # whether anybody may read the files
    requests, refused = seen_by(site.hub)
    expected = {
        "GET ms info": 1,
        "GET ms revisions": 1,
        "GET ms commits": 1,
        "GET ms files": 1,
        "GET ms file": len(FILES) + probe,
        "GET cdn blob": len(FILES) - SMALL,
    }
    assert same(requests, Counter(expected), again, "GET ms revisions", "GET ms commits"), requests
    assert refused == 0


def test_a_cluster_that_meets_its_hubs_limit_waits_together(site, closed):
    """Fewer requests in a window than it takes: nobody fails, and hardly anything is asked in vain."""
    nodes = members(closed, 3)
    site.hub.configure({"quota": [6, 3]})
    try:
        again = start_together(4, nodes, huggingface_client)
    finally:
        site.hub.configure({"quota": None})
    requests, refused = seen_by(site.hub)
    more = requests - least(nodes=3)
    assert set(more) <= {"GET unknown", "GET hf resolve", "GET hf info"}, "refused; redirected to where the limit came down"
    assert more.total() <= len(nodes) + again
    assert refused < len(nodes), "those that were under way when the hub said so"
    assert site.sent == sum(map(len, FILES.values()))


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("nodes", "clients"), [(1, 200), (8, 25)])
def test_two_hundred_clients_cause_no_refusal_and_no_second_request(site, closed, nodes, clients):
    together = members(closed, nodes)
    site.hub.configure({"quota": [least(nodes).total(), 300]})
    try:
        again = start_together(clients, together, huggingface_client)
    finally:
        site.hub.configure({"quota": None})
        for node in together:
            node.stop()
    requests, refused = seen_by(site.hub)
    assert same(requests, least(nodes), again, "GET hf info"), requests
    assert refused <= again
    assert site.sent == sum(map(len, FILES.values()))
