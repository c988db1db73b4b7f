"""The daemon of this machine, as its own commands see it: found by `daemon.json`, asked over its gateway's JSON API."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from p2pmodel import config, limits
from p2pmodel.cli import port_owner
from p2pmodel.cli.outcome import failure
from p2pmodel.errors import ConfigError, NoDaemonError, NotAuthorisedError, NotFoundError, P2pmodelError
from p2pmodel.settings import HostPort, Settings, host_port

_HERE: Final = {"localhost": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # how to reach what listens there
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_NOT_YOURS: Final = "Only root and the user whom the daemon runs as may change it."
_AGAIN: Final = "The same command resumes where it stopped."
_ERRORS_OF_STATUS: Final = {
    400: "ConfigError", 401: "NotAuthorisedError", 403: "NotAuthorisedError", 404: "NotFoundError",
    429: "UnavailableError", 504: "UnavailableError", 507: "StoreFullError",
}  # fmt: skip
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_WHERE_IT_IS: Final = "Commands read it where the daemon does: name its --config, or --set gateway.token_file=FILE."

Query = Mapping[str, str | Sequence[str]]


class _Announcement(msgspec.Struct):
    """`<state>/run/daemon.json`."""

    pid: int
    node_id: str
    gateway: str
    gateway_tls: str = ""
    ca_bundle: str = ""


@dataclass(frozen=True, slots=True)
class LocalDaemon:
    """A running daemon. Every verb raises NoDaemonError when it is gone, and its failures as what they were there."""

    node_id: str
    gateway: HostPort
    gateway_token: str | None = field(default=None, repr=False)
    folder: Path | None = None  # where its admin socket lies
    gateway_tls: HostPort | None = None
    ca_bundle: str = ""  # what its clients over TLS have to trust, the system's authorities included

    @property
    def endpoint(self) -> str:
        """What clients set as HF_ENDPOINT."""
        return endpoint_of(self.gateway)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """How a client's address of a file begins, if it leads here."""
        tls = [f"https://{here(self.gateway_tls)}/", f"https://localhost:{self.gateway_tls.port}/"] if self.gateway_tls else []
        return (f"{self.endpoint}/", f"http://{here(self.gateway)}/", *tls)

    def client_environment(self) -> dict[str, str]:
        """What hub clients read before they ask."""
        found = {"HF_ENDPOINT": self.endpoint, "MODELSCOPE_ENDPOINT": self.endpoint}
        if self.gateway_tls is not None:
            # Up to 1.37 this is the only name that modelscope reads; to localhost it would send no cookie.
            found |= {"MODELSCOPE_DOMAIN": str(here(self.gateway_tls)), "REQUESTS_CA_BUNDLE": self.ca_bundle}
        return found

    def get(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """A JSON document of the API."""
        with self._answer(_target(path, query or {}), {}, limits.API_ANSWER_TIMEOUT_S) as answer:
            document: dict[str, Any] = json.loads(answer.read(limits.API_BYTES_MAX))
            return document

    def get_all(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """The same with what is private, if this user is the daemon's own or root."""
        try:
            with self._owners_answer("GET", path, query or {}, limits.API_ANSWER_TIMEOUT_S) as answer:
                document: dict[str, Any] = json.loads(answer.read(limits.API_BYTES_MAX))
                return document
        except NotFoundError:
            raise
        except P2pmodelError:  # somebody else, or a daemon that tells it to nobody yet
            return self.get(path, query)

    def change(self, verb: str, query: Query) -> dict[str, Any]:
        """What only the daemon's owner may ask, and what came of it. Raises NotAuthorisedError for everybody else."""
        with self._owners_answer("POST", f"/{verb}", query, limits.API_ANSWER_TIMEOUT_S) as answer:
            document: dict[str, Any] = json.loads(answer.read(limits.API_BYTES_MAX))
            return document

    def changes(self, verb: str, query: Query) -> Iterator[dict[str, Any]]:
        """The same of what takes long: a stream of JSON lines, until its last."""
        with self._owners_answer("POST", f"/{verb}", query, limits.API_SILENCE_S) as answer:
            yield from _lines(answer)

    def _owners_answer(
        self, method: str, path: str, query: Query, timeout_s: float
    ) -> contextlib.AbstractContextManager[http.client.HTTPResponse]:
        if self.folder is None:
            raise NoDaemonError("This daemon has no admin socket.")
        return self._answer_over(_AdminConnection(self.folder, timeout_s), method, _target(path, query), {})

    def events(self, path: str, query: Query, *, hub_token: str | None) -> Iterator[dict[str, Any]]:
        """A stream of JSON lines, until its last. `hub_token` goes to a daemon on this machine only."""
        headers = {"Authorization": f"Bearer {hub_token}"} if hub_token and here(self.gateway).host in _LOOPBACK else {}
        with self._answer(_target(path, query), headers, limits.API_SILENCE_S) as answer:
            yield from _lines(answer)

    def _answer(
        self, target: str, headers: dict[str, str], timeout_s: float
    ) -> contextlib.AbstractContextManager[http.client.HTTPResponse]:
        address = here(self.gateway)
        own = {"X-P2pmodel-Token": self.gateway_token} if self.gateway_token else {}
        connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
        return self._answer_over(connection, "GET", target, headers | own)

    @contextlib.contextmanager
    def _answer_over(
        self, connection: http.client.HTTPConnection, method: str, target: str, headers: dict[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        address = here(self.gateway)
        with contextlib.closing(connection):
            try:
                connection.request(method, target, headers=headers)
                answer = connection.getresponse()
            except PermissionError:
                raise NotAuthorisedError(_NOT_YOURS, next_step="Ask as that user, or as root.") from None
            except (ConnectionRefusedError, FileNotFoundError):
                raise NoDaemonError(f"No daemon answers at {address}.") from None
            except TimeoutError:
                raise P2pmodelError(f"The daemon at {address} is silent.", next_step="See its log.") from None
            if answer.status != _OK:
                raise _refusal(answer)
            try:
                yield answer
            except TimeoutError:
                raise P2pmodelError(f"The daemon at {address} fell silent.", next_step=_AGAIN) from None
            except (ConnectionError, http.client.HTTPException, json.JSONDecodeError):
                raise P2pmodelError("The daemon stopped in the middle of its answer.", next_step=_AGAIN) from None


def _lines(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    while line := answer.readline(limits.FRAME_BYTES_MAX):
        event = json.loads(line)
        if event.get("event") == "error":
            raise failure(event.get("kind", ""), event.get("message", "It failed."), event.get("next_step", ""))
        yield event


class _AdminConnection(http.client.HTTPConnection):
    """HTTP over a daemon's admin socket."""

    def __init__(self, folder: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._folder = folder

    def connect(self) -> None:
        directory = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{directory}/admin.sock")  # its own path may be too long for a socket's name
        finally:
            os.close(directory)


def _target(path: str, query: Query) -> str:
    try:
        given = urlencode({name: value for name, value in query.items() if value}, doseq=True)
    except UnicodeEncodeError:
        raise ConfigError("A name that was given is not UTF-8.", next_step="A UTF-8 locale (LANG=C.UTF-8) may help.") from None
    return f"{path}?{given}" if given else path


def here(address: HostPort) -> HostPort:
    """What listens there as this machine reaches it, by address."""
    return address._replace(host=_HERE.get(address.host, address.host))


def endpoint_of(gateway: HostPort) -> str:
    """How a client of this machine names what listens there."""
    return f"http://{gateway._replace(host='localhost') if gateway.host in _HERE else gateway}"


def find(settings: Settings) -> LocalDaemon:
    """The daemon of the state directory that somebody set, else this user's, else the system's. Raises NoDaemonError."""
    chosen = settings.origins.get("node.state_dir", "") != "default"
    for folder in [settings.node.state_dir] if chosen else config.state_dirs():
        if daemon := _announced(folder / "run" / "daemon.json", settings):
            return daemon
    where = f" with its state in {settings.node.state_dir}" if chosen else ""
    raise NoDaemonError(f"No p2pmodel daemon runs on this machine{where}.")


def _announced(file: Path, settings: Settings) -> LocalDaemon | None:
    """What a daemon wrote about itself, if it still lives."""
    try:
        written, owner = file.read_bytes(), file.stat().st_uid
    except OSError:  # not there, or not for this user to know
        return None
    try:
        announcement = msgspec.json.decode(written, type=_Announcement)
        gateway = host_port(announcement.gateway.removeprefix("http://"))
        gateway_tls = host_port(announcement.gateway_tls) if announcement.gateway_tls else None
    except ValueError:
        raise P2pmodelError(f"{file} is damaged.", next_step="Restart the daemon: it writes the file anew.") from None
    if not (_alive(announcement.pid) and _listens(gateway, owner)):
        return None
    token = _gateway_token(settings)
    return LocalDaemon(announcement.node_id, gateway, token, file.parent, gateway_tls, announcement.ca_bundle)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, so it is there
        return True
    return True


def _listens(gateway: HostPort, owner: int) -> bool:
    """After a crash or a power cut the pid in the file may be anybody's by now, and so may the port. (Under systemd its socket
    is root's.)"""
    try:
        socket.create_connection(here(gateway), timeout=limits.API_ANSWER_TIMEOUT_S).close()
    except ConnectionRefusedError:
        return False
    except OSError:  # it is said by whoever asks
        return True
    host = here(gateway).host
    return host not in _LOOPBACK or port_owner.listeners(host, gateway.port) <= {0, owner}


def _gateway_token(settings: Settings) -> str | None:
    if settings.gateway.token_file is None:
        return None
    with contextlib.suppress(ConfigError):  # only those who may read it can ask; the daemon tells the others
        return config.read_secret(settings.gateway.token_file)
    return None


def _refusal(answer: http.client.HTTPResponse) -> P2pmodelError:
    try:
        message = str(json.loads(answer.read(limits.FRAME_BYTES_MAX))["error"])
    except (ValueError, KeyError, TypeError):
        message = f"The daemon answered {answer.status}."
    next_step = _WHERE_IT_IS if answer.status == _UNAUTHORIZED else ""
    return failure(_ERRORS_OF_STATUS.get(answer.status, ""), message, next_step)
