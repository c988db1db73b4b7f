"""From defaults, file, environment and flags to one frozen `Settings`, and where each value came from.

Later beats earlier: built-in default, what the machine says (`_found`), config file, environment, flag. A wrong key or value
is a ConfigError that names the place and the nearest valid key. Files with secrets are found here and read by their users.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from p2pmodel import sd
from p2pmodel.config_file import Lines, parse
from p2pmodel.content.naming import Hub
from p2pmodel.errors import ConfigError
from p2pmodel.own_address import is_own
from p2pmodel.settings import KEYS, SECTIONS, AliasSettings, GatewaySettings, HostPort, Settings, UpstreamSettings, keys_of, url

__all__ = [
    "Settings",
    "changed",
    "check_door",
    "defaults",
    "key_file_to_write",
    "load",
    "read_lines",
    "read_secret",
    "state_dirs",
    "token_of",
]

SYSTEM_CONFIG: Final = Path("/etc/p2pmodel")
SYSTEM_STATE: Final = Path("/var/lib/p2pmodel")
_PREFIX: Final = "P2PMODEL_"
_DEFAULT: Final = "default"
_SEE: Final = "See `p2pmodel config show --defaults`."
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_OWN_HOSTS: Final = {
    Hub.HUGGINGFACE: frozenset({"huggingface.co", "hf.co"}),
    Hub.MODELSCOPE: frozenset({"www.modelscope.cn", "modelscope.cn", "www.modelscope.ai", "modelscope.ai"}),
}


@dataclass(frozen=True, slots=True)
class _Known:
    """A default upstream and the environment names by which hub clients already know it; the first that is set counts."""

    endpoint: str
    endpoint_names: tuple[str, ...]
    token_name: str
    credential: str


_KNOWN: Final = {
    Hub.HUGGINGFACE: _Known("https://huggingface.co", ("HF_ENDPOINT",), "HF_TOKEN", "hub-token"),
    Hub.MODELSCOPE: _Known(
        "https://www.modelscope.cn", ("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"), "MODELSCOPE_API_TOKEN", "modelscope-token"
    ),
}


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as a user wrote it, and where."""

    value: object
    origin: str


def load(
    *, file: Path | None = None, environ: Mapping[str, str] = os.environ, flags: Mapping[str, str] | None = None
) -> Settings:
    """The effective settings. `flags` maps ``section.key`` to text. Raises ConfigError."""
    reread = partial(load, file=file, environ=environ, flags=flags)
    file = file or _config_file(environ)
    document, lines = parse(file) if file else ({}, Lines("", ""))
    given: dict[str, _Given] = {}
    values: dict[str, object] = {}
    named = ((key, _Given(value, "flag")) for key, value in (flags or {}).items())
    for key, each in (*_found(environ), *_from_file(document, lines), *_from_environment(environ), *named):
        values[key], given[key] = _read(key, each), each  # a mistake is one where a later layer hides it, too
    origins = dict.fromkeys(KEYS, _DEFAULT) | {key: each.origin for key, each in given.items()}
    if "cluster.mode" not in values and values.get("cluster.key_file"):
        values["cluster.mode"], origins["cluster.mode"] = "closed", "a cluster key is there"
    sections = {name: section(**_of_section(name, values)) for name, section in SECTIONS.items()}
    upstreams = _upstreams(document, lines, environ, sections["gateway"], origins)
    aliases = _aliases(document, lines)
    settings = Settings(**sections, upstreams=upstreams, aliases=aliases, origins=origins, reread=reread)
    _check_together(settings)
    return settings


def defaults() -> Settings:
    """What holds on this machine where nobody set anything."""
    return load(file=Path(os.devnull), environ={"HOME": str(_home(os.environ))})


def changed(before: Settings, after: Settings) -> list[str]:
    """The names of the settings that differ."""
    keys = [key for key in KEYS if _value(before, key) != _value(after, key)]
    upstreams = set(before.upstreams) ^ set(after.upstreams)
    others = ["alias"] if before.aliases != after.aliases else []
    return keys + others + sorted({f"upstream.{upstream.name}" for upstream in upstreams})


def _value(settings: Settings, key: str) -> object:
    section, _, name = key.partition(".")
    value: object = getattr(getattr(settings, section), name)
    return value


def state_dirs(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Where a daemon of this user, then of the system, keeps its state unless told otherwise."""
    return [_xdg(environ, "XDG_STATE_HOME", ".local/state"), SYSTEM_STATE]


def key_file_to_write(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a new cluster key goes: the system's place for root (the service finds it there), else the user's."""
    return (SYSTEM_CONFIG if os.geteuid() == 0 else _xdg(environ, "XDG_CONFIG_HOME", ".config")) / "cluster-key"


def read_lines(file: Path) -> str:
    """The text of a cluster's key file. Raises ConfigError without repeating what is in it."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(f"Cannot read {file}: {reason}.", next_step="Check the path and its owner.") from None


def read_secret(file: Path) -> str:
    """The one line of a token or key file. Raises ConfigError without repeating what is in it."""
    secret = read_lines(file).strip()
    if not secret or not secret.isprintable():
        raise ConfigError(f"{file} must hold one line of text.")
    return secret


def token_of(upstream: UpstreamSettings) -> str | None:
    """Our own token for an upstream, if it has one. Raises ConfigError when its file cannot be read."""
    if upstream.token_file is not None:
        return read_secret(upstream.token_file)
    return upstream.token


# Layers


def _xdg(environ: Mapping[str, str], name: str, under_home: str) -> Path:
    return Path(environ.get(name) or _home(environ) / under_home) / "p2pmodel"


def _home(environ: Mapping[str, str]) -> Path:
    """As a shell knows it, which is also there where the environment was emptied (cron, `env -i`)."""
    if home := environ.get("HOME"):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:  # a container's user without a name
        return Path("/")


def _config_file(environ: Mapping[str, str]) -> Path | None:
    folders = (_xdg(environ, "XDG_CONFIG_HOME", ".config"), SYSTEM_CONFIG)
    return next((folder / "config.toml" for folder in folders if (folder / "config.toml").is_file()), None)


def _found(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    """What the machine says where nobody set anything."""
    yield "node.name", _Given(socket.gethostname(), "host name")
    if state := environ.get("STATE_DIRECTORY"):
        yield "node.state_dir", _Given(state.split(":")[0], "systemd StateDirectory")
    else:
        yield "node.state_dir", _Given(str(state_dirs(environ)[0]), _DEFAULT)
    if credential := sd.credential("cluster-key", environ):
        yield "cluster.key_file", _Given(str(credential), "systemd credential cluster-key")
        return
    for folder in (_xdg(environ, "XDG_CONFIG_HOME", ".config"), SYSTEM_CONFIG):
        if (folder / "cluster-key").is_file():
            yield "cluster.key_file", _Given(str(folder / "cluster-key"), "found")
            return


def _from_file(document: Mapping[str, object], lines: Lines) -> Iterator[tuple[str, _Given]]:
    for section, table in document.items():
        if section in {"upstream", "alias"}:
            continue
        if section not in SECTIONS or not isinstance(table, dict):
            raise _unknown(section, lines.place(section))
        for key, value in table.items():
            name = f"{section}.{key}"
            if name not in KEYS:
                raise _unknown(name, lines.place(section, key))
            yield name, _Given(value, lines.place(section, key))


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    if environ.get("HF_HUB_OFFLINE"):
        yield "node.offline", _Given(environ["HF_HUB_OFFLINE"], "environment HF_HUB_OFFLINE")
    for variable, value in environ.items():
        # Two underscores make a setting: Kubernetes sets P2PMODEL_SERVICE_HOST and its like where a Service bears our name.
        section, two_underscores, key = variable.removeprefix(_PREFIX).partition("__")
        if not variable.startswith(_PREFIX) or not two_underscores:
            continue
        name = f"{section}.{key}".lower()
        if name not in KEYS:
            raise _unknown(name, f"environment {variable}")
        yield name, _Given(value, f"environment {variable}")


def _of_section(section: str, values: Mapping[str, object]) -> dict[str, Any]:
    return {name.removeprefix(f"{section}."): value for name, value in values.items() if name.startswith(f"{section}.")}


def _read(name: str, given: _Given) -> object:
    if name not in KEYS:
        raise _unknown(name, given.origin)
    try:
        return KEYS[name](given.value)
    except ValueError as error:
        raise _ill_typed(name, given.origin, error) from None


# Upstreams: the file's list; a hub that it does not name has its default upstream


def _upstreams(
    document: Mapping[str, object],
    lines: Lines,
    environ: Mapping[str, str],
    gateway: GatewaySettings,
    origins: dict[str, str],
) -> tuple[UpstreamSettings, ...]:
    tables = _tables(document, "upstream", lines)
    listed = []
    for position, table in enumerate(tables):
        upstream = _listed_upstream(table, position, lines)
        if f"upstream.{upstream.name}" in origins:
            raise ConfigError(f"{lines.place('upstream', 'name', position)}: two upstreams are called {upstream.name!r}.")
        origins[f"upstream.{upstream.name}"] = lines.place("upstream", "name", position)
        listed.append(upstream)
    named = {upstream.hub for upstream in listed}
    listed += [_default_upstream(hub, known, environ, gateway, origins) for hub, known in _KNOWN.items() if hub not in named]
    return tuple(sorted(listed, key=lambda upstream: upstream.priority))


def _listed_upstream(table: Mapping[str, object], position: int, lines: Lines) -> UpstreamSettings:
    values = _of_table("upstream", table, UpstreamSettings, ("name", "hub", "endpoint"), lines.at(position))
    values.setdefault("trusted", _own_host(values["hub"], values["endpoint"]))
    return UpstreamSettings(**values)


def _aliases(document: Mapping[str, object], lines: Lines) -> tuple[AliasSettings, ...]:
    """Repos that somebody says are the same on both hubs."""
    tables = enumerate(_tables(document, "alias", lines))
    required = ("huggingface", "modelscope")
    return tuple(AliasSettings(**_of_table("alias", table, AliasSettings, required, lines.at(at))) for at, table in tables)


# Lists of tables


def _tables(document: Mapping[str, object], name: str, lines: Lines) -> list[dict[str, object]]:
    tables = document.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{lines.place(name)}: there may be several of {name}.", next_step=f"Begin each with [[{name}]].")
    return tables


def _of_table(
    name: str, table: Mapping[str, object], kind: type[Any], required: Sequence[str], place: Callable[[str, str], str]
) -> dict[str, Any]:
    """The values of one table of a list."""
    keys = keys_of(kind)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in keys:
            raise _unknown(f"{name}.{key}", place(name, key))
        try:
            values[key] = keys[key].metadata["read"](value)
        except ValueError as error:
            raise _ill_typed(f"{name}.{key}", place(name, key), error) from None
    missing = [key for key in required if key not in values]
    if missing:
        raise ConfigError(f"{place(name, '')}: this {name} needs {' and '.join(missing)}.")
    return values


def _default_upstream(
    hub: Hub, known: _Known, environ: Mapping[str, str], gateway: GatewaySettings, origins: dict[str, str]
) -> UpstreamSettings:
    endpoint, origin = known.endpoint, _DEFAULT
    for name in known.endpoint_names:
        if not (given := environ.get(name)):
            continue
        address = given if "://" in given else f"https://{given}"
        try:
            address = url(address)
        except ValueError as error:
            raise _ill_typed(name, "environment", error) from None
        if not _is_own_gateway(address, gateway):
            endpoint, origin = address, f"environment {name}"
            break
    upstream = UpstreamSettings(name=hub.value, hub=hub, endpoint=endpoint, trusted=_own_host(hub, endpoint))
    origins[f"upstream.{hub.value}"] = origin
    if token := environ.get(known.token_name):
        origins[f"upstream.{hub.value}.token"] = f"environment {known.token_name}"
        return replace(upstream, token=token)
    if credential := sd.credential(known.credential, environ):
        origins[f"upstream.{hub.value}.token_file"] = f"systemd credential {known.credential}"
        return replace(upstream, token_file=credential)
    return upstream


def _own_host(hub: Hub, endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    return parts.scheme == "https" and parts.hostname in _OWN_HOSTS[hub]


def _is_own_gateway(endpoint: str, gateway: GatewaySettings) -> bool:
    """A client's shell often has HF_ENDPOINT set to us; asking ourselves for what we lack would never end."""
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    listening = [listen for listen in (gateway.listen, gateway.tls_listen) if listen]
    hosts = {socket.gethostname(), *gateway.allowed_hosts, *(listen.host for listen in listening)}
    return port in {listen.port for listen in listening} and (parts.hostname in hosts or is_own(parts.hostname or ""))


# Settings that must fit each other


def _check_together(settings: Settings) -> None:
    cluster = settings.cluster
    if cluster.mode == "closed" and cluster.key_file is None:
        raise ConfigError(
            'cluster.mode is "closed" and there is no cluster key.',
            next_step="Make one with `p2pmodel cluster init`, or take part with `p2pmodel cluster join TOKEN`.",
        )
    if cluster.mode == "hardened" and not (cluster.ca and cluster.cert and cluster.key):
        raise ConfigError('cluster.mode "hardened" needs cluster.ca, cluster.cert and cluster.key.')
    if cluster.mode == "open" and cluster.private_sharing == "members":
        raise ConfigError(
            f"{settings.origins['cluster.private_sharing']}: in an open cluster everybody on the subnet is a member.",
            next_step="Close it with `p2pmodel cluster init`, or leave cluster.private_sharing out.",
        )
    if cluster.mode == "open" and settings.gateway.vouchers:
        raise ConfigError(
            f"{settings.origins['gateway.vouchers']}: gateway.vouchers believes members, and in an open cluster everybody on "
            "the subnet is one.",
            next_step="Close it with `p2pmodel cluster init`, or leave gateway.vouchers out.",
        )
    for listen in filter(None, (settings.gateway.listen, settings.gateway.tls_listen)):
        check_door(listen, settings.gateway)


def check_door(listen: HostPort, gateway: GatewaySettings) -> None:
    """Raises ConfigError for an address that other machines reach, unless clients show a token or the risk is named."""
    if _on_this_machine(listen.host) or gateway.token_file is not None or gateway.serve_anyone:
        return
    raise ConfigError(
        f"The gateway would listen on {listen}, where other machines reach it, and asks for no token.",
        next_step="Set gateway.token_file, or listen on localhost; gateway.serve_anyone = true lets in whoever gets there.",
    )


def _on_this_machine(host: str) -> bool:
    try:
        return host in _LOOPBACK or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# Nearest names


def _unknown(name: str, place: str) -> ConfigError:
    from difflib import SequenceMatcher  # noqa: PLC0415  # only a mistake pays for it

    def likeness(valid: str) -> float:
        """A right key in the wrong section is near as well."""
        pairs = ((name, valid), (name.rpartition(".")[2], valid.rpartition(".")[2]))
        return max(SequenceMatcher(None, *pair).ratio() for pair in pairs)

    tables = {"upstream": UpstreamSettings, "alias": AliasSettings}
    keys = [*KEYS, *(f"{table}.{key}" for table, kind in tables.items() for key in keys_of(kind))]
    near = max(keys if "." in name else [*keys, *SECTIONS, *tables], key=likeness)
    return ConfigError(f"{place}: there is no setting {name}; the nearest is {near}.", next_step=_SEE)


def _ill_typed(name: str, place: str, expected: ValueError) -> ConfigError:
    return ConfigError(f"{place}: {name} must be {expected}.", next_step=_SEE)
