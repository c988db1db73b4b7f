"""Every setting: its name, its default, how it is written and what it means. One frozen object per section of the file.

`config` reads files, environment and flags into these; `p2pmodel config show --defaults` prints this table. A field made by
`setting` is a key that users may give; a reader takes what TOML or the environment holds and returns the field's value, or
raises ValueError with the words "must be …" can end in. No error repeats a value: it could be a secret in the wrong place.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

from p2pmodel import limits
from p2pmodel.content.naming import Hub, Repo, RepoKind

T = TypeVar("T")
S = TypeVar("S", bound=str)

_PORT_MAX: Final = 65535
_SIZE_UNITS: Final = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_DURATION_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_FLAGS: Final = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class HostPort(NamedTuple):
    """Where to listen or to dial. Port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# Readers


def text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text in quotes")  # noqa: TRY004  # every reader refuses by ValueError
    return value


def texts(value: object) -> tuple[str, ...]:
    """A list; in the environment and on the command line its items stand between commas."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError('a list of texts like ["a", "b"]')
    return tuple(value)


def ipv4_addresses(value: object) -> tuple[str, ...]:
    """A list of IPv4 addresses; the name of an interface is none."""
    addresses = texts(value)
    try:
        return tuple(str(ipaddress.IPv4Address(address)) for address in addresses)
    except ValueError:
        raise ValueError('a list of IPv4 addresses like ["192.168.1.5"]') from None


def flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in _FLAGS:
        raise ValueError("true or false")
    return _FLAGS[value.lower()]


def whole(value: object) -> int:
    """A whole number from 0 up."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("a whole number from 0 up")
    return value


def positive(value: object) -> int:
    """A whole number from 1 up."""
    try:
        if number := whole(value):
            return number
    except ValueError:
        pass
    raise ValueError("a whole number from 1 up")


def _measure(value: object, units: Mapping[str, int], expected: str) -> float:
    """A number with one of `units` behind it."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", str(value).strip().lower())
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not match or match[2] not in units:
        raise ValueError(expected)
    return float(match[1]) * units[match[2]]


def size(value: object) -> int:
    """Bytes."""
    return int(_measure(value, _SIZE_UNITS, 'a size like "500GB" or "64MiB"'))


def rate(value: object) -> int:
    """Bytes per second; 0 is no limit."""
    per_second = value.removesuffix("/s") if isinstance(value, str) else value
    return int(_measure(per_second, _SIZE_UNITS, 'a rate like "50MB/s", or 0 for no limit'))


def duration(value: object) -> float:
    """Seconds."""
    return _measure(value, _DURATION_UNITS, 'a duration like "90s", "10m" or "24h"')


def host_port(value: object) -> HostPort:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/]+)):([0-9]{1,5})", value) if isinstance(value, str) else None
    if not match or int(match[3]) > _PORT_MAX:
        raise ValueError('an address like "localhost:7276" or "[::]:7276"')
    return HostPort(match[1] or match[2], int(match[3]))


def host_ports(value: object) -> tuple[HostPort, ...]:
    return tuple(host_port(item) for item in texts(value))


def path(value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a path")
    return Path(os.path.abspath(os.path.expanduser(value)))  # noqa: PTH100, PTH111  # Path.expanduser raises for ~unknown


def url(value: object) -> str:
    """An http(s) URL without a trailing slash. A user name or password inside is refused: it would show in logs."""
    expected = 'a URL like "https://hub.example" without user, password, query or fragment'
    try:
        parts = urlsplit(text(value))
        _ = parts.port  # raises ValueError where it is no port
    except ValueError:
        raise ValueError(expected) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(expected)
    return parts.geturl().rstrip("/")


def choice(*options: S) -> Callable[[object], S]:
    def read(value: object) -> S:
        for option in options:
            if value == option:
                return option
        raise ValueError("one of " + ", ".join(f'"{option}"' for option in options))

    return read


def hub(value: object) -> Hub:
    return Hub(choice(*(each.value for each in Hub))(value))


def repo_name(value: object) -> str:
    """A repo's name on a hub."""
    try:
        return Repo(Hub.HUGGINGFACE, RepoKind.MODEL, text(value)).name
    except ValueError:
        raise ValueError('a repo\'s name like "org/name"') from None


def optional(read: Callable[[object], T]) -> Callable[[object], T | None]:
    """Empty text stands for "none"."""

    def read_optional(value: object) -> T | None:
        return None if value == "" else read(value)

    return read_optional


# Keys


def setting(default: object, read: Callable[[object], T], meaning: str) -> T:
    """A key of its section. `default` is as a user would write it; MISSING where only the environment can tell."""
    metadata = {"read": read, "meaning": meaning}
    if default is MISSING:
        return field(metadata=metadata)  # type: ignore[no-any-return]  # a Field stands in for the value, as dataclasses do
    return field(default=read(default), metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    name: str = setting("", text, "What people call this node (the host's name)")
    state_dir: Path = setting(MISSING, path, "Everything that the daemon keeps")
    offline: bool = setting(False, flag, "Never ask a hub; peers and the store still serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    listen: HostPort = setting("localhost:7276", host_port, "HTTP for clients; localhost is 127.0.0.1 and ::1")
    tls_listen: HostPort | None = setting(
        "", optional(host_port), "The same over TLS, for modelscope before 1.38 (`p2pmodel env` says how); empty is off"
    )
    allowed_hosts: tuple[str, ...] = setting(
        [], texts, "Host names that clients may use besides localhost and this machine's addresses"
    )
    token_file: Path | None = setting("", optional(path), "Clients must show this token; needed to listen beyond this machine")
    serve_anyone: bool = setting(
        False, flag, "Listen beyond this machine without a token: whoever reaches the port may use this node"
    )
    xet: Literal["large", "all", "off"] = setting(
        "large",
        choice("large", "all", "off"),
        "Hugging Face files that clients read by Xet, from this node: those over 50 GB (they refuse them otherwise), all, none",
    )
    vouchers: int = setting(
        0,
        whole,
        "How many members of a closed or hardened cluster must vouch for a file (each has checked all of it) for its bytes to "
        "leave before this node's own check; 0: no number is enough",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PeeringSettings:
    listen: HostPort = setting("0.0.0.0:7277", host_port, "Links from other daemons")
    advertise: HostPort | None = setting(
        "", optional(host_port), "The address to tell others, where it is not the one they see"
    )
    plain_data: Literal["public", "never"] = setting(
        "public", choice("public", "never"), "Which chunks may travel outside TLS (each is checked by its digest)"
    )
    peers: tuple[HostPort, ...] = setting([], host_ports, "Daemons to dial besides those that discovery finds")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    mdns: bool = setting(True, flag, "Find and be found by multicast DNS")
    interfaces: tuple[str, ...] = setting([], ipv4_addresses, "Addresses of the interfaces to use; empty is all")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    mode: Literal["open", "closed", "hardened", "off"] = setting(
        "open",
        choice("open", "closed", "hardened", "off"),
        'Who may be a peer: "open" anyone on our subnets, public models only; "closed" holders of the key; "hardened" holders '
        'of a certificate; "off" nobody',
    )
    key_file: Path | None = setting("", optional(path), "The key of a closed cluster; `p2pmodel cluster init` writes one")
    ca: Path | None = setting("", optional(path), "Certificate authority of a hardened cluster")
    cert: Path | None = setting("", optional(path), "This node's certificate in a hardened cluster")
    key: Path | None = setting("", optional(path), "This node's private key in a hardened cluster")
    crl: Path | None = setting("", optional(path), "Revocation list of a hardened cluster: whom to keep out")
    private_sharing: Literal["prove", "off", "members"] = setting(
        "prove",
        choice("prove", "off", "members"),
        "Which members may have private models: those who prove access, none, all; in an open cluster none may",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    quota: int = setting("500GB", size, "How much the store may hold; 0 is no limit")
    min_free: int = setting("1GB", size, "How much to leave free on the device")
    fsync: bool = setting(True, flag, "Sync to disk before claiming a chunk; false risks a refetch after a power cut")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSettings:
    peer_upload: int = setting(0, rate, "To peers; 0 is no limit")
    peer_download: int = setting(0, rate, "From peers; 0 is no limit")
    upstream: int = setting(0, rate, "From hubs; 0 is no limit")
    upstream_connections: int = setting(limits.HUB_CONNECTIONS, positive, "Connections to hubs at once")
    clients: int = setting(limits.CLIENTS_MAX, positive, "Connections from clients at once")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """`token` is not a key: it comes from the environment (HF_TOKEN, MODELSCOPE_API_TOKEN), `token_file` from anywhere."""

    name: str = setting(MISSING, text, "What logs and metrics call it")
    hub: Hub = setting(MISSING, hub, 'Whose names it answers to: "huggingface" or "modelscope"')
    endpoint: str = setting(MISSING, url, "Where it is")
    priority: int = setting(0, whole, "Lower is asked first")
    token_file: Path | None = setting("", optional(path), "Our token for it")
    ca_file: Path | None = setting("", optional(path), "Certificate authorities to trust instead of the system's")
    trusted: bool = setting(False, flag, "Its bytes count as the hub's own (true for the hub's own host over https)")
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasSettings:
    """One repo that both hubs have. Nothing is ever guessed from equal names: somebody else may own the other one."""

    huggingface: str = setting(MISSING, repo_name, "Its name on Hugging Face")
    modelscope: str = setting(MISSING, repo_name, "Its name on ModelScope")
    type: Literal["model", "dataset"] = setting("model", choice("model", "dataset"), "What kind of repo it is")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    cache: float = setting("10m", duration, "How long a hub's yes to a private file is believed")
    offline_grace: float = setting("24h", duration, "The same while the hub does not answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", choice("debug", "info", "warning", "error"), "The least that is logged"
    )
    format: Literal["auto", "text", "json"] = setting(
        "auto", choice("auto", "text", "json"), "auto is text on a terminal, else JSON"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The effective settings. `origins` says for each ``section.key`` (and ``upstream.NAME``) where it came from, `reread`
    reads them again from the same places."""

    node: NodeSettings
    gateway: GatewaySettings = GatewaySettings()
    peering: PeeringSettings = PeeringSettings()
    discovery: DiscoverySettings = DiscoverySettings()
    cluster: ClusterSettings = ClusterSettings()
    store: StoreSettings = StoreSettings()
    limits: LimitsSettings = LimitsSettings()
    upstreams: tuple[UpstreamSettings, ...] = ()
    aliases: tuple[AliasSettings, ...] = ()
    access: AccessSettings = AccessSettings()
    log: LogSettings = LogSettings()
    origins: Mapping[str, str] = field(default_factory=dict, repr=False)
    reread: Callable[[], Settings] | None = field(default=None, repr=False, compare=False)


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "node": NodeSettings,
    "gateway": GatewaySettings,
    "peering": PeeringSettings,
    "discovery": DiscoverySettings,
    "cluster": ClusterSettings,
    "store": StoreSettings,
    "limits": LimitsSettings,
    "access": AccessSettings,
    "log": LogSettings,
}


def keys_of(section: type[Any]) -> dict[str, Field[Any]]:
    """The keys of a section, in their order."""
    return {each.name: each for each in fields(section) if "read" in each.metadata}


KEYS: Final[Mapping[str, Callable[[object], object]]] = {
    f"{name}.{key}": each.metadata["read"] for name, section in SECTIONS.items() for key, each in keys_of(section).items()
}


# Writing a value as a user would


def spell(value: object, read: Callable[[object], object]) -> str | int | bool | list[str]:
    """What a user would write in the file (or JSON) for a value of this reader."""
    if read in {size, rate} and isinstance(value, int):
        return _spell_measure(value, _SIZE_UNITS, str.upper) + ("/s" if read is rate and value else "")
    if read is duration and isinstance(value, float):
        return _spell_measure(value, {unit: factor for unit, factor in _DURATION_UNITS.items() if unit != "d"}, str)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, tuple) and not isinstance(value, HostPort):
        return [str(item) for item in value]
    return "" if value is None else str(value)


def _spell_measure(value: float, units: Mapping[str, int], cased: Callable[[str], str]) -> str:
    for unit, factor in sorted(units.items(), key=lambda item: -item[1]):
        if unit and value >= factor and value % factor == 0:
            return f"{value // factor:.0f}{cased(unit).replace('IB', 'iB')}"
    return f"{value:g}" if value < 1 else f"{value:.0f}"
