"""Who may be a peer, who may read what, and where no secret may ever show.

Two daemons of a closed cluster, joined by the commands; private and gated repos; a canary of each kind of secret.
"""

import os
import tempfile
from pathlib import Path

import pytest
from daemons import MIB, House, files_in, until
from noise import noise

PUBLIC = {"config.json": b"{}", "model.safetensors": noise(1, 5 * MIB)}
SECRET = {"config.json": b'{"secret": 1}', "model.safetensors": noise(2, 5 * MIB)}
ALICE, MALLORY = "hf_canaryAliceCanaryAlice", "hf_canaryMalloryCanary"


@pytest.fixture(scope="module")
def key_file(house):
    """Always said: root's own place for it is the machine's /etc."""
    return str(house.folder / "cluster-key")


@pytest.fixture(scope="module")
def token(house, key_file):
    done = house.user.run("cluster", "init", "--key-file", key_file)
    assert done.code == 0, done.err
    return done.out.strip()


@pytest.fixture(scope="module")
def closed(site, house, token, key_file):
    assert token
    site.hub.add_repo("model", "acme/open", PUBLIC)
    site.hub.add_repo("model", "acme/secret", SECRET, private=True)
    site.hub.add_repo("model", "acme/gated", SECRET, gated=True)
    site.hub.add_user(ALICE, "alice")
    site.hub.add_user(MALLORY, "mallory", grants=[])
    one = house.daemon("one", cluster__key_file=key_file)
    two = house.daemon("two", [one], cluster__key_file=key_file)
    return one, two


# Membership


def test_the_token_makes_another_user_a_member_and_strangers_stay_outside(site, house, closed, token, tmp_path):
    one, two = closed
    assert one.command("cluster token").out.strip() == token
    assert one.ask("/-/api/status").json["mode"] == "closed"
    joined = house.user.run("cluster", "join", token, "--key-file", tmp_path / "key")
    assert joined.code == 0, joined.err
    member = house.daemon("member", [one], cluster__key_file=str(tmp_path / "key"))
    assert house.user.run("cluster", "init", "--key-file", tmp_path / "other").code == 0
    stranger = house.plan("stranger", [one], cluster__key_file=str(tmp_path / "other")).start()
    visitor = house.plan("visitor", [one], cluster__mode="open").start()
    hermit = house.plan("hermit", [one], cluster__mode="off").start()
    one.bring("acme/open")
    site.hub.reset()
    assert member.bring("acme/open")["peers"] == sum(map(len, PUBLIC.values()))
    assert site.sent == 0
    for outsider in (stranger, visitor, hermit):
        assert outsider.bring("acme/open")["peers"] == 0
        assert outsider.ask("/-/api/peers").json["peers"] == []
        outsider.stop()
    assert len(one.ask("/-/api/peers").json["peers"]) == 2
    member.stop()
    assert two.running


def test_half_a_token_is_refused(house, token, tmp_path):
    done = house.user.run("cluster", "join", token[:-5], "--key-file", tmp_path / "key")
    assert done.code == 2
    assert token[:-5] not in done.err


def test_with_the_hub_gone_a_members_listing_serves_a_member_that_never_saw_the_repo(site, house, closed):
    one, two = closed
    commit = one.bring("acme/open")["commit"]
    site.down()
    try:
        done = two.bring("acme/open")
        assert (done["commit"], done["upstream"]) == (commit, 0)
        assert files_in(done["path"]) == PUBLIC
    finally:
        site.up()
        for node in closed:
            until(lambda node=node: node.ask("/acme/none/resolve/main/x").status == 404, "the hub to be asked again")


# Private and gated


def get(node, path, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return node.ask(path, **headers)


@pytest.mark.parametrize("path", ["/acme/secret/resolve/main/config.json", "/api/models/acme/secret"])
def test_a_private_repo_is_not_there_but_for_those_whom_the_hub_lets_in(closed, path):
    one, _ = closed
    for wrong in (None, MALLORY, "hf_nonsense"):
        answer = get(one, path, wrong)
        assert answer.status in {401, 404}
        assert answer.headers["x-error-code"] == "RepoNotFound"
        assert b"secret" not in answer.body.replace(b"acme/secret", b"")
    answer = get(one, path, ALICE)
    assert answer.status == 200
    assert b"secret" in answer.body


def test_a_gated_repo_is_listed_for_all_and_its_files_are_for_some(closed):
    one, _ = closed
    assert get(one, "/api/models/acme/gated").status == 200
    for wrong in (None, MALLORY):
        answer = get(one, "/acme/gated/resolve/main/model.safetensors", wrong)
        assert (answer.status, answer.headers["x-error-code"]) == (403, "GatedRepo")
    assert get(one, "/acme/gated/resolve/main/model.safetensors", ALICE).body == SECRET["model.safetensors"]


def test_private_bytes_are_not_shown_to_other_users(closed):
    one, _ = closed
    assert get(one, "/acme/secret/resolve/main/model.safetensors", ALICE).body == SECRET["model.safetensors"]
    assert (one.state / "private").stat().st_mode & 0o077 == 0
    assert not list((one.state / "hub").glob("*secret*"))
    assert b"secret" not in one.ask("/-/api/snapshots").body


def test_the_nodes_owner_is_told_what_private_models_take_of_the_disk_over_the_admin_socket_alone(closed):
    one, _ = closed
    assert get(one, "/acme/secret/resolve/main/model.safetensors", ALICE).status == 200
    assert b"secret" not in one.ask("/-/api/snapshots").body
    unknown, private = (one.ask(f"/-/api/info?repo=acme/{name}") for name in ("nothing", "secret"))
    assert (private.status, private.body) == (404, unknown.body.replace(b"nothing", b"secret"))
    [held] = [each for each in one.command("list", "--json").json["snapshots"] if each["repo"] == "acme/secret"]
    assert held["private"]
    assert held["bytes_here"] >= len(SECRET["model.safetensors"])
    assert "acme/secret (private)" in one.command("list").out
    told = one.command("info", "acme/secret")
    assert "model.safetensors" in told.out
    assert ", private" in told.out
    assert one.command("info", "acme/nothing").code == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_of_the_machine_is_told_of_public_models_only(site, closed):
    assert closed, "the hub is filled"
    with tempfile.TemporaryDirectory() as place, House(Path(place), site) as house:
        Path(place).chmod(0o755)  # pytest's own folders are its user's alone
        node = house.daemon("node")
        for repo in ("acme/secret", "acme/open"):
            assert get(node, f"/{repo}/resolve/main/config.json", ALICE).status == 200
        told = node.command_of_nobody("list")
        assert (told.code, "acme/open" in told.out, "secret" in told.out) == (0, True, False)
        assert node.command_of_nobody("info", "acme/secret").code == 3
        assert "acme/secret" in node.command("list").out


def test_a_user_with_a_token_fetches_a_private_repo_by_the_command(closed):
    one, _ = closed
    done = one.command("fetch", "acme/secret", "--json", HF_TOKEN=ALICE)
    assert done.code == 0, done.err
    assert one.command("fetch", "acme/secret", HF_TOKEN=MALLORY).code == 3
    assert one.command("fetch", "acme/gated", HF_TOKEN=MALLORY).code == 4


def test_no_secret_is_in_any_log_file_answer_or_at_the_storage_host(site, closed, token):
    """After everything above, and a failure with a token in hand."""
    one, two = closed
    get(one, "/acme/none/resolve/main/config.json", ALICE)
    site.hub.fault("acme", status=500, times=5)
    get(two, "/acme/secret/resolve/nope/config.json", ALICE)
    site.hub.reset()
    for node in closed:
        told = [node.log.encode()]
        told += [node.ask(path).body for path in ("/metrics", "/-/", "/-/api/status", "/-/api/peers", "/-/api/snapshots")]
        told += [path.read_bytes() for path in node.state.rglob("*") if path.is_file() and not path.is_symlink()]
        assert len(told) > 10
        for secret in (ALICE, MALLORY, token):
            assert not [text[:200] for text in told if secret.encode() in text]
        assert b"acme" not in node.ask("/metrics").body
    assert site.hub.stats()["auth_leaks"] == 0
