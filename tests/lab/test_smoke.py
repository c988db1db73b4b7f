"""Three hosts on a LAN, nothing configured but the hub: what every change must leave working."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from daemons import CHUNK, files_in, finish, until
from lan import PEERING_PORT, Lan, address, within

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

AWAY_S = 4.0
MESH_S = 10.0  # "within seconds", on a machine that starts three daemons at once


@pytest.fixture(scope="module")
def lan(tmp_path_factory):
    with Lan(tmp_path_factory.mktemp("lan"), 3, rate="1gbit", origin_rate="100mbit") as lan:
        yield lan


@pytest.fixture(scope="module")
def nodes(lan):
    return [lan.daemon(number) for number in (1, 2, 3)]


def linked(nodes):
    return all(len(node.peers) == len(nodes) - 1 for node in nodes)


def test_hosts_find_each_other_by_multicast_within_seconds(nodes, figure):
    for node in nodes:
        node.begin()
    for node in nodes:
        node.started()
    took = within(MESH_S, lambda: linked(nodes), "three nodes to be linked")
    figure(f"linked {took:.1f} s after the last was up")


def test_the_first_takes_it_from_the_hub_and_the_others_from_the_lan(lan, nodes, new_model, figure):
    model = new_model(lan, 24)
    lan.hub.reset()
    frames = lan.frames["origin"]["sent"]
    for node in nodes:
        done = node.fetch(model.name)
        assert files_in(done["path"]) == model.files
        assert (done["upstream"], done["peers"]) == ((model.size, 0) if node is nodes[0] else (0, model.size))
        assert lan.sent == model.size
    frames = lan.frames["origin"]["sent"] - frames
    figure(f"hub bytes {lan.sent / model.size:.3f} x, frames from the hub's port {frames / model.size:.3f} x")
    assert frames <= 1.1 * model.size


def test_nodes_that_start_cold_together_cost_the_hub_one_copy(lan, nodes, new_model, figure):
    model = new_model(lan, 40)
    lan.hub.reset()
    with ThreadPoolExecutor(len(nodes)) as together:
        ends = list(together.map(lambda node: node.bring(model.name), nodes))
    assert all(files_in(end["path"]) == model.files for end in ends)
    figure(f"hub bytes {lan.sent / model.size:.3f} x")
    assert lan.sent <= 1.10 * model.size


def test_a_hub_cut_off_in_the_middle_and_back_again(lan, nodes, new_model, figure):
    """While it is away what the LAN has is served; what was under way ends right when it is back."""
    kept, cut = new_model(lan, 8), new_model(lan, 40)
    nodes[0].fetch(kept.name)
    nodes[2].ask(f"/{kept.name}/resolve/main/config.json")
    lan.hub.reset()
    fetches = [node.begin_command("fetch", cut.name, "--json") for node in nodes[:2]]
    until(lambda: lan.sent > cut.size / 3, "the fetch to be under way")
    lan.cut(0)
    try:
        took = within(10, lambda: nodes[2].bring(kept.name)["event"] == "done", "what a peer has")
        time.sleep(AWAY_S)
    finally:
        lan.heal()
    for fetch in fetches:
        done = finish(fetch)
        assert done.code == 0, done.err
        assert files_in(done.json["path"]) == cut.files
    figure(f"hub bytes {lan.sent / cut.size:.3f} x; what a peer has came in {took:.1f} s while it was away")
    assert lan.sent <= 1.25 * cut.size


def test_a_node_killed_in_the_middle_resumes_after_its_restart(lan, nodes, new_model, figure):
    model = new_model(lan, 40)
    lan.hub.reset()
    node = nodes[1]
    fetch = node.begin_command("fetch", model.name)
    until(lambda: lan.sent > model.size / 2, "half of it to be here")
    node.kill()
    finish(fetch)
    before = lan.sent
    done = node.start().fetch(model.name)
    assert files_in(done["path"]) == model.files
    figure(f"{done['here'] / CHUNK:.1f} of {model.size / CHUNK:.0f} chunks kept, hub bytes {lan.sent / model.size:.3f} x")
    assert lan.sent - before <= model.size / 2 + 6 * CHUNK
    took = within(MESH_S, lambda: linked(nodes), "the restarted node to be linked again")
    figure(f"linked again after {took:.1f} s")


def test_remembered_and_named_peers_do_without_multicast(lan, nodes, new_model, figure):
    model = new_model(lan, 8)
    nodes[0].fetch(model.name)
    remembered = [node.state / "peers.json" for node in nodes[:2]]
    until(lambda: all(file.exists() for file in remembered), "the peers to be remembered")
    for node in nodes:
        node.kill()
    lan.multicast(on=False)
    try:
        for node in nodes[:2]:
            node.begin()
        for node in nodes[:2]:
            node.started()
        figure(f"remembered {within(MESH_S, lambda: linked(nodes[:2]), 'the remembered to be linked'):.1f} s")
        new = lan.daemon(3, "newcomer", peering__peers=[f"{address(1)}:{PEERING_PORT}"]).start()
        figure(f"named one {within(MESH_S, lambda: len(new.peers) >= 1, 'the named peer'):.1f} s")
        figure(f"heard of the other {within(40, lambda: len(new.peers) == 2, 'peer exchange'):.1f} s")
        lan.hub.reset()
        assert new.bring(model.name)["peers"] == model.size
        assert lan.sent == 0
        new.kill()
    finally:
        lan.multicast(on=True)
        for node in nodes[:2]:
            node.kill()


def test_a_closed_cluster_keeps_strangers_out(lan, new_model, figure):
    """One node makes the cluster, one joins by token, a third has neither token nor manners: it names both as peers."""
    model = new_model(lan, 8)
    doors = [f"{address(number)}:{PEERING_PORT}" for number in (1, 2)]
    key = [lan.folder / f"key{number}" for number in (1, 2)]
    first, second = (lan.daemon(number, f"member{number}", cluster__key_file=str(key[number - 1])) for number in (1, 2))
    token = first.user.run("cluster", "init", "--key-file", key[0]).out.strip()
    assert second.user.run("cluster", "join", token, "--key-file", key[1]).code == 0
    stranger = lan.daemon(3, "stranger", peering__peers=doors)
    for node in (first, second, stranger):
        node.begin()
    for node in (first, second, stranger):
        node.started()
    figure(f"members linked after {within(MESH_S, lambda: linked([first, second]), 'the members to be linked'):.1f} s")
    first.fetch(model.name)
    lan.hub.reset()
    assert second.fetch(model.name)["upstream"] == 0
    done = stranger.fetch(model.name)
    assert (done["peers"], lan.sent) == (0, model.size)
    assert stranger.peers == []
    assert linked([first, second])
    for node in (first, second, stranger):
        assert token not in node.log
