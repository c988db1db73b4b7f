"""A ban as its operator meets it: shown with its reason, kept over a restart, lifted by the owner and by nobody else."""

import time

import msgspec
import pytest
from daemons import MIB
from noise import noise

from p2pmodel.store import Store

pytestmark = pytest.mark.houses

MODEL = {"config.json": b"{}", "model.safetensors": noise(77, 5 * MIB)}
LATER = {"config.json": b"{ }", "model.safetensors": noise(78, 5 * MIB)}


def condemn(node, whom, why, *, ends=None):
    """As if it had been found out in an earlier run: what that leaves in the store."""
    store = Store(node.state, fsync=True, quota_bytes=0, min_free_bytes=0)
    store.put_document("bans", msgspec.json.encode([(whom, why, ends, 1200.0)]))
    store.close()


@pytest.mark.parametrize(("why", "lasts_s"), [("false_digest", None), ("wrong_bytes", 3570)])
def test_a_mended_node_comes_back_when_its_ban_is_lifted(site, house, why, lasts_s):
    models = {name: f"acme/{why}-{name}".replace("_", "-") for name in ("first", "second")}
    site.hub.add_repo("model", models["first"], MODEL)
    site.hub.add_repo("model", models["second"], LATER)
    one = house.daemon(f"one-{why}")
    for model in models.values():
        one.bring(model)
    one_id = one.ask("/-/api/status").json["node_id"]
    two = house.plan(f"two-{why}", [one])
    condemn(two, one_id, why, ends=lasts_s and time.time() + lasts_s)
    two.start().linked(1)

    assert two.bring(models["first"])["peers"] == 0, "nothing is asked of it"
    shown = two.command("peers")
    assert f"{one_id[:12]} is banned for {'good' if lasts_s is None else '59 min '}" in shown.err
    assert "--forgive" in shown.err
    assert "banned: " in shown.out

    assert two.command("peers", "--forgive", "0123456789").code == 2
    done = two.command("peers", "--forgive", one_id[:12])
    assert (done.code, done.out) == (0, "")
    assert "not banned here any more" in done.err
    assert "banned" not in two.command("peers").out
    assert two.bring(models["second"])["upstream"] == 0, "it is asked again"

    assert two.stop() == 0
    two.start().linked(1)
    assert two.ask("/-/api/peers").json["bans"] == []
    for node in (one, two):
        node.stop()
