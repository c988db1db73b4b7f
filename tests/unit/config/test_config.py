"""What users write, through the door that the daemon and the command line use: `config.load`."""

import os
import pwd
import socket
from pathlib import Path

import pytest

from p2pmodel import config
from p2pmodel.content.naming import Hub
from p2pmodel.errors import ConfigError
from p2pmodel.settings import KEYS, SECTIONS, HostPort, keys_of, spell


@pytest.fixture
def environ(tmp_path):
    """A user's environment on a machine where nothing is configured."""
    return {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin"}


@pytest.fixture(autouse=True)
def _no_system_config(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "SYSTEM_CONFIG", tmp_path / "etc")


def _file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return file


def _refused(**given) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config.load(**given)
    return caught.value


def test_with_nothing_configured_every_documented_default_holds(environ):
    settings = config.load(environ=environ)
    assert settings.gateway.listen == HostPort("localhost", 7276)
    assert settings.peering.listen == HostPort("0.0.0.0", 7277)
    assert settings.cluster.mode == "open"
    assert settings.store.quota == 500_000_000_000
    assert (settings.access.cache, settings.access.offline_grace) == (600.0, 86400.0)
    assert settings.node.name == socket.gethostname()
    assert [(each.hub, each.endpoint, each.trusted) for each in settings.upstreams] == [
        (Hub.HUGGINGFACE, "https://huggingface.co", True),
        (Hub.MODELSCOPE, "https://www.modelscope.cn", True),
    ]
    assert settings.origins["gateway.listen"] == "default"


def test_every_key_tells_its_meaning_and_spells_its_default_as_it_reads_it(environ):
    settings = config.load(environ=environ)
    for name, section in SECTIONS.items():
        for key, each in keys_of(section).items():
            value = getattr(getattr(settings, name), key)
            assert each.metadata["meaning"]
            assert KEYS[f"{name}.{key}"](spell(value, each.metadata["read"])) == value


def test_file_then_environment_then_flag_later_beats_earlier(tmp_path, environ):
    file = _file(tmp_path, '[log]\nlevel = "debug"\nformat = "json"\n\n[gateway]\nlisten = "localhost:1"\n')
    environ["P2PMODEL_LOG__LEVEL"] = "warning"
    environ["P2PMODEL_GATEWAY__LISTEN"] = "localhost:2"
    settings = config.load(file=file, environ=environ, flags={"gateway.listen": "localhost:3"})
    assert (settings.log.format, settings.log.level, settings.gateway.listen.port) == ("json", "warning", 3)
    assert settings.origins["log.format"] == f"{file}:3"
    assert settings.origins["log.level"] == "environment P2PMODEL_LOG__LEVEL"
    assert settings.origins["gateway.listen"] == "flag"


def test_the_users_config_file_is_read_before_the_systems(tmp_path, environ):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "config.toml").write_text('node.name = "system"')
    assert config.load(environ=environ).node.name == "system"
    environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    (tmp_path / "xdg" / "p2pmodel").mkdir(parents=True)
    (tmp_path / "xdg" / "p2pmodel" / "config.toml").write_text('node.name = "user"')
    assert config.load(environ=environ).node.name == "user"


@pytest.mark.parametrize(
    ("text", "line", "nearest"),
    [
        ('[gateway]\nlisten = "localhost:1"\nallowed_host = []\n', 3, "gateway.allowed_hosts"),
        ("[sotre]\nquota = 1\n", 1, "store"),
        ("store.qouta = 1\n", 1, "store.quota"),
        (
            '[[upstream]]\nname = "a"\nhub = "huggingface"\nendpoint = "https://a"\n\n[[upstream]]\nnam = "b"\n',
            7,
            "upstream.name",
        ),
        ("listen = 1", 1, "gateway.listen"),
    ],
)
def test_an_unknown_key_names_file_line_and_the_nearest_valid_key(tmp_path, environ, text, line, nearest):
    message = str(_refused(file=_file(tmp_path, text), environ=environ))
    assert f"config.toml:{line}: " in message
    assert message.endswith(f"the nearest is {nearest}.")


def test_without_home_in_the_environment_the_users_own_counts(environ):
    del environ["HOME"]
    home = pwd.getpwuid(os.geteuid()).pw_dir
    assert config.load(environ=environ).node.state_dir == Path(home) / ".local/state/p2pmodel"


def test_what_is_near_to_a_wrong_key_is_a_key(tmp_path, environ):
    assert "the nearest is limits." in str(_refused(file=_file(tmp_path, "[limits]\nfoo = 1\n"), environ=environ))


def test_a_mistake_in_the_file_is_one_where_the_environment_or_a_flag_hides_it_too(tmp_path, environ):
    file = _file(tmp_path, "[gateway]\nlisten = 5\n")
    environ["P2PMODEL_GATEWAY__LISTEN"] = "localhost:1"
    message = str(_refused(file=file, environ=environ, flags={"gateway.listen": "localhost:0"}))
    assert "config.toml:2: gateway.listen must be an address" in message


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("store.quota", '"plenty"', "a size"),
        ("store.fsync", '"maybe"', "true or false"),
        ("gateway.listen", '"localhost"', "an address"),
        ("gateway.listen", '"localhost:70000"', "an address"),
        ("gateway.vouchers", "-1", "a whole number"),
        ("gateway.vouchers", "true", "a whole number"),
        ("limits.upstream", '"50 knots"', "a rate"),
        ("limits.clients", "0", "a whole number from 1 up"),
        ("limits.upstream_connections", '"many"', "a whole number from 1 up"),
        ("access.cache", '"10 moons"', "a duration"),
        ("cluster.mode", '"ajar"', 'one of "open", "closed", "hardened", "off"'),
        ("peering.peers", '["a:1", 2]', "a list of texts"),
        ("node.state_dir", '""', "a path"),
        ("discovery.interfaces", '["eth0"]', "a list of IPv4 addresses"),
    ],
)
def test_an_ill_typed_value_names_its_line_and_what_it_must_be(tmp_path, environ, key, value, expected):
    section, name = key.split(".")
    message = str(_refused(file=_file(tmp_path, f"[{section}]\n{name} = {value}\n"), environ=environ))
    assert f"config.toml:2: {key} must be {expected}" in message


def test_settings_are_read_again_from_the_same_places(tmp_path, environ):
    file = _file(tmp_path, "[limits]\nupstream = 1000\nclients = 5\n")
    settings = config.load(file=file, environ=environ | {"P2PMODEL_LOG__LEVEL": "error"}, flags={"limits.clients": "7"})
    file.write_text("[limits]\nupstream = 2000\nclients = 6\n[store]\nquota = 0\n")
    again = settings.reread()
    assert (again.limits.upstream, again.limits.clients, again.log.level) == (2000, 7, "error")
    assert config.changed(settings, again) == ["store.quota", "limits.upstream"]
    assert config.changed(again, again.reread()) == []


def test_an_upstream_that_changed_is_told_by_its_name_and_not_by_its_token(environ):
    before, after = (config.load(environ=environ | {"HF_TOKEN": token}) for token in ("hf_one", "hf_two"))
    assert config.changed(before, after) == ["upstream.huggingface"]


def test_vouchers_are_for_clusters_that_have_members(tmp_path, environ):
    file = _file(tmp_path, "[gateway]\nvouchers = 2\n")
    message = str(_refused(file=file, environ=environ))
    assert message == (f"{file}:2: gateway.vouchers believes members, and in an open cluster everybody on the subnet is one.")
    for mode in ("off", "closed"):
        flags = {"cluster.mode": mode, "cluster.key_file": str(tmp_path / "key")}
        assert config.load(file=file, environ=environ, flags=flags).gateway.vouchers == 2


def test_a_broken_file_and_a_missing_one_are_said_in_a_sentence(tmp_path, environ):
    assert "line 1" in str(_refused(file=_file(tmp_path, "[gateway\n"), environ=environ))
    assert "No such file" in str(_refused(file=tmp_path / "absent.toml", environ=environ))


def test_an_unknown_environment_name_is_refused_and_names_of_kubernetes_are_not_ours(environ):
    environ["P2PMODEL_PORT_7276_TCP_ADDR"] = "10.0.0.1"
    assert config.load(environ=environ)
    environ["P2PMODEL_GATEWAY__LISTN"] = "x"
    assert str(_refused(environ=environ)).startswith("environment P2PMODEL_GATEWAY__LISTN: there is no setting gateway.listn")


def test_an_unknown_flag_is_refused(environ):
    assert "nearest is store.quota" in str(_refused(environ=environ, flags={"store.quotta": "1"}))


@pytest.mark.parametrize(
    ("text", "value"),
    [("500GB", 500 * 10**9), ("64 MiB", 64 * 2**20), ("1.5TB", 1_500_000_000_000), ("12", 12), ("0", 0)],
)
def test_sizes_are_read_as_people_write_them(environ, text, value):
    assert config.load(environ=environ, flags={"store.quota": text}).store.quota == value


def test_rates_durations_lists_and_addresses_are_read_as_people_write_them(environ):
    flags = {
        "limits.upstream": "50MB/s",
        "access.cache": "90s",
        "peering.peers": "10.0.0.1:7277, [fe80::1]:7",
        "gateway.listen": "[::1]:0",
    }
    settings = config.load(environ=environ, flags=flags)
    assert settings.limits.upstream == 50_000_000
    assert settings.access.cache == 90.0
    assert settings.peering.peers == (HostPort("10.0.0.1", 7277), HostPort("fe80::1", 7))
    assert str(settings.gateway.listen) == "[::1]:0"


# Names that hub clients know


def test_hub_clients_environment_names_mean_the_same_here(environ):
    environ |= {"HF_ENDPOINT": "https://hf-mirror.com/", "HF_TOKEN": "hf_canary", "HF_HUB_OFFLINE": "1"}
    environ |= {"MODELSCOPE_DOMAIN": "www.modelscope.ai", "MODELSCOPE_API_TOKEN": "ms_canary"}
    settings = config.load(environ=environ)
    huggingface, modelscope = settings.upstreams
    assert (huggingface.endpoint, huggingface.trusted, huggingface.token) == ("https://hf-mirror.com", False, "hf_canary")
    assert (modelscope.endpoint, modelscope.trusted, modelscope.token) == ("https://www.modelscope.ai", True, "ms_canary")
    assert settings.node.offline
    assert settings.origins["upstream.huggingface"] == "environment HF_ENDPOINT"
    assert "canary" not in repr(settings)
    assert "canary" not in repr(settings.origins)


def test_our_own_offline_setting_beats_the_hub_clients_name(environ):
    environ |= {"HF_HUB_OFFLINE": "1", "P2PMODEL_NODE__OFFLINE": "false"}
    assert not config.load(environ=environ).node.offline


@pytest.mark.parametrize("endpoint", ["http://localhost:7276", "http://127.0.0.1:7276/", "http://[::1]:7276"])
def test_an_endpoint_that_is_our_own_gateway_is_ignored(environ, endpoint):
    environ |= {"HF_ENDPOINT": endpoint, "MODELSCOPE_ENDPOINT": endpoint, "MODELSCOPE_DOMAIN": "localhost:7276"}
    endpoints = [
        each.endpoint for each in config.load(environ=environ, flags={"gateway.tls_listen": "localhost:7276"}).upstreams
    ]
    assert endpoints == ["https://huggingface.co", "https://www.modelscope.cn"]


def test_a_local_hub_at_another_port_is_not_our_gateway(environ):
    environ["HF_ENDPOINT"] = "http://localhost:9000"
    upstream = config.load(environ=environ).upstreams[0]
    assert (upstream.endpoint, upstream.trusted) == ("http://localhost:9000", False)


# Upstreams in the file


def test_upstreams_of_the_file_take_the_place_of_that_hubs_default(tmp_path, environ):
    environ["HF_ENDPOINT"] = "https://hf-mirror.com"
    file = _file(
        tmp_path,
        '[[upstream]]\nname = "far"\nhub = "huggingface"\nendpoint = "https://huggingface.co"\npriority = 2\n'
        '[[upstream]]\nname = "near"\nhub = "huggingface"\nendpoint = "http://10.0.0.9"\npriority = 1\ntrusted = true\n',
    )
    upstreams = config.load(file=file, environ=environ).upstreams
    assert [(each.name, each.trusted) for each in upstreams] == [("modelscope", True), ("near", True), ("far", True)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[upstream]]\nname = "a"\n', "config.toml:1: this upstream needs hub and endpoint"),
        ('[upstream]\nname = "a"\n', "config.toml:1: there may be several of upstream"),
        (
            '[[upstream]]\nname = "a"\nhub = "huggingface"\nendpoint = "https://u:canary@h"\n',
            "config.toml:4: upstream.endpoint must be a URL",
        ),
        (
            2 * '[[upstream]]\nname = "a"\nhub = "huggingface"\nendpoint = "https://h"\n',
            "config.toml:6: two upstreams are called 'a'",
        ),
    ],
)
def test_a_wrong_upstream_is_refused_at_its_line_and_no_secret_is_repeated(tmp_path, environ, text, complaint):
    message = str(_refused(file=_file(tmp_path, text), environ=environ))
    assert complaint in message
    assert "canary" not in message


# What the machine says


def test_as_a_service_state_and_credentials_come_from_systemd(tmp_path, environ):
    for name, secret in (("cluster-key", "k"), ("hub-token", "hf_canary\n")):
        (tmp_path / name).write_text(secret)
    environ |= {"STATE_DIRECTORY": "/var/lib/p2pmodel", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    settings = config.load(environ=environ)
    assert settings.node.state_dir == Path("/var/lib/p2pmodel")
    assert (settings.cluster.mode, settings.cluster.key_file) == ("closed", tmp_path / "cluster-key")
    assert config.token_of(settings.upstreams[0]) == "hf_canary"
    assert config.token_of(settings.upstreams[1]) is None
    assert settings.origins["cluster.mode"] == "a cluster key is there"


def test_state_of_a_user_stands_under_the_xdg_state_directory(environ):
    assert config.load(environ=environ).node.state_dir == Path(environ["HOME"]) / ".local/state/p2pmodel"
    environ["XDG_STATE_HOME"] = "/var/tmp/state"  # a name only
    assert config.load(environ=environ).node.state_dir == Path("/var/tmp/state/p2pmodel")


def test_a_key_beside_the_users_config_closes_the_cluster_and_an_explicit_mode_wins(environ):
    folder = Path(environ["HOME"]) / ".config/p2pmodel"
    folder.mkdir(parents=True)
    (folder / "cluster-key").write_text("k")
    assert config.load(environ=environ).cluster.mode == "closed"
    assert config.load(environ=environ, flags={"cluster.mode": "off"}).cluster.mode == "off"


def test_a_closed_cluster_without_a_key_says_how_to_get_one(environ):
    assert "p2pmodel cluster init" in _refused(environ=environ, flags={"cluster.mode": "closed"}).next_step


def test_listening_beyond_this_machine_needs_a_token(tmp_path, environ):
    flags = {"gateway.listen": "0.0.0.0:7276"}
    assert "gateway.token_file" in _refused(environ=environ, flags=flags).next_step
    assert config.load(environ=environ, flags=flags | {"gateway.token_file": str(tmp_path / "t")})
    assert config.load(environ=environ, flags=flags | {"gateway.serve_anyone": "true"})
    assert config.load(environ=environ, flags={"gateway.listen": "127.0.0.2:7276"})


def test_a_secret_that_cannot_be_read_is_named_by_its_file_alone(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        config.read_secret(tmp_path / "absent")
    (tmp_path / "two").write_text("hf_canary\nsecond line\n")
    with pytest.raises(ConfigError, match="one line") as caught:
        config.read_secret(tmp_path / "two")
    assert "canary" not in str(caught.value)


def test_aliases_say_which_repos_are_the_same_on_both_hubs(tmp_path, environ):
    file = _file(
        tmp_path,
        '[[alias]]\nhuggingface = "Org/A"\nmodelscope = "org/a"\n'
        '[[alias]]\nhuggingface = "o/d"\nmodelscope = "o/d"\ntype = "dataset"\n',
    )
    settings = config.load(file=file, environ=environ)
    assert [(each.huggingface, each.modelscope, each.type) for each in settings.aliases] == [
        ("Org/A", "org/a", "model"),
        ("o/d", "o/d", "dataset"),
    ]
    assert config.changed(settings, config.load(environ=environ)) == ["alias"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[alias]]\nhuggingface = "o/a"\n', "config.toml:1: this alias needs modelscope"),
        ('[[alias]]\nhuggingface = "../a"\nmodelscope = "o/a"\n', "config.toml:2: alias.huggingface must be a repo's name"),
        ('[[alias]]\nhugingface = "o/a"\n', "config.toml:2: there is no setting alias.hugingface"),
        ("[alias]\n", "config.toml:1: there may be several of alias"),
    ],
)
def test_a_wrong_alias_is_refused_at_its_line(tmp_path, environ, text, complaint):
    assert complaint in str(_refused(file=_file(tmp_path, text), environ=environ))
