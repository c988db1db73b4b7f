"""Two hubs and a mirror: one store for all, one stands in for the other by alias, and a mirror that lies harms nobody."""

import json
from contextlib import ExitStack

import pytest
from daemons import MIB, House, Site
from noise import noise

pytestmark = pytest.mark.houses

WEIGHTS = noise(1, 9 * MIB + 5)
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS}


class Hubs:
    """Hugging Face, ModelScope and a mirror of the first, each a server of its own; `site` is what a House wants of one."""

    def __init__(self):
        self.huggingface, self.modelscope, self.mirror = Site(), Site(), Site()
        self.tables = ""

    @property
    def upstreams(self):
        ways = [("huggingface", self.huggingface), ("modelscope", self.modelscope)]
        table = '[[upstream]]\nname = "{0}"\nhub = "{0}"\nendpoint = "{1}"\ntrusted = true\n'
        return "".join(table.format(name, at.url) for name, at in ways) + self.tables


ALIAS = '[[alias]]\nhuggingface = "acme/tiny"\nmodelscope = "else/tiny-ms"\n'


@pytest.fixture(scope="module")
def hubs():
    hubs = Hubs()
    with ExitStack() as stack:
        for site in (hubs.huggingface, hubs.modelscope, hubs.mirror):
            stack.enter_context(site)
        hubs.huggingface.hub.add_repo("model", "acme/tiny", FILES)
        hubs.modelscope.hub.add_repo("model", "else/tiny-ms", FILES)
        hubs.mirror.hub.add_repo("model", "acme/tiny", FILES)
        yield hubs


@pytest.fixture
def house(hubs, tmp_path):
    hubs.tables = ALIAS
    for site in (hubs.huggingface, hubs.modelscope, hubs.mirror):
        site.hub.reset()
    with House(tmp_path, hubs) as house:
        yield house


def test_a_model_of_both_hubs_is_moved_and_stored_once(hubs, house):
    node = house.daemon("node")
    node.bring("acme/tiny")
    done = node.bring("else/tiny-ms", "modelscope")
    assert (done["upstream"], done["here"]) == (0, sum(map(len, FILES.values())))
    assert hubs.modelscope.sent <= 1  # whether its files are for everybody
    assert node.metrics("p2pmodel_store_bytes")['state="sealed"'] == sum(map(len, FILES.values()))
    target = "/api/v1/models/else/tiny-ms/repo?FilePath=model.safetensors"
    answer = node.ask(target)
    assert (answer.body == WEIGHTS, answer.headers["x-p2pmodel-source"]) == (True, "store")
    assert node.command("verify").code == 0


def test_a_new_commit_costs_only_the_files_that_changed(hubs, house):
    node = house.daemon("node")
    node.bring("else/tiny-ms", "modelscope")
    commit = hubs.modelscope.hub.repo("model", "else/tiny-ms").commit({"config.json": b'{"new": 1}'}, branch="next")
    hubs.modelscope.hub.reset()
    assert node.bring("else/tiny-ms", "modelscope", revision=commit)["upstream"] == len(b'{"new": 1}')
    assert hubs.modelscope.sent <= len(b'{"new": 1}') + 1


def test_when_one_hub_breaks_off_its_twin_goes_on(hubs, house):
    node = house.daemon("node")
    hubs.huggingface.hub.fault("blobs|resolve/.*model.safetensors", reset_at=5 * MIB)
    answer = node.ask("/acme/tiny/resolve/main/model.safetensors")
    assert (answer.status, answer.body == WEIGHTS) == (200, True)
    assert 0 < hubs.modelscope.sent <= 6 * MIB
    assert node.received("upstream") <= len(WEIGHTS) + 5 * MIB


def test_a_mirror_that_lies_is_found_out_and_left_alone(hubs, house):
    hubs.tables += f'[[upstream]]\nname = "mirror"\nhub = "huggingface"\nendpoint = "{hubs.mirror.url}"\npriority = 0\n'
    hubs.mirror.hub.fault("blobs", flip_at=4 * MIB + 1)
    node = house.plan("node")
    node.config.write_text(node.config.read_text().replace('name = "huggingface"\n', 'name = "huggingface"\npriority = 1\n'))
    node.start()
    answer = node.ask("/acme/tiny/resolve/main/model.safetensors")
    assert (answer.status, answer.body == WEIGHTS) == (200, True)
    assert hubs.mirror.sent >= 4 * MIB
    assert "upstream_lied" in node.log
    hubs.mirror.hub.reset()
    hubs.huggingface.hub.add_repo("model", "acme/more", {"more.bin": noise(7, 100_000)})
    assert node.ask("/acme/more/resolve/main/more.bin").status == 200
    assert hubs.mirror.sent == 0


def test_offline_what_the_cluster_holds_is_served_and_the_rest_is_a_quick_last_word(hubs, house):
    one = house.daemon("one")
    one.bring("else/tiny-ms", "modelscope")
    commit = one.ask("/api/v1/models/else/tiny-ms/repo?FilePath=config.json").headers["x-repo-commit"]
    two = house.daemon("two", [one])
    two.bring("else/tiny-ms", "modelscope", file="config.json")
    two.stop()
    before = hubs.modelscope.hub.stats()["requests_total"]
    two.start(P2PMODEL_NODE__OFFLINE="true").linked(1)
    answer = two.ask("/api/v1/models/else/tiny-ms/repo?Revision=master&FilePath=model.safetensors")
    assert (answer.status, answer.body == WEIGHTS, answer.headers["x-repo-commit"]) == (200, True, commit)
    for target in ("", "/revisions", "/repo/files?Recursive=True"):
        assert two.ask(f"/api/v1/models/else/tiny-ms{target}").json["Success"], target
    for target in ("/api/v1/models/acme/unseen", "/api/v1/models/acme/unseen/repo/files?Revision=master"):
        refused = two.ask(target, patience_s=3.0)
        assert (refused.status, "offline" in refused.json["Message"]) == (404, True)
    refused = two.ask("/api/models/acme/unseen/revision/main", patience_s=3.0)
    assert (refused.status, "offline" in refused.headers["x-error-message"]) == (424, True)
    assert "x-error-code" not in refused.headers  # the repo may well be there
    assert json.loads(two.ask("/-/api/status").body)["offline"]
    assert hubs.modelscope.hub.stats()["requests_total"] == before
