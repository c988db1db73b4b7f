"""One configured way to reach a hub."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from p2pmodel.content import Access, Hub
from p2pmodel.errors import ConfigError
from p2pmodel.own_address import is_own
from p2pmodel.upstream.url import Url

OWN_HOSTS: Final = {
    Hub.HUGGINGFACE: frozenset({"huggingface.co", "hf.co"}),
    Hub.MODELSCOPE: frozenset({"modelscope.cn", "www.modelscope.cn", "modelscope.ai", "www.modelscope.ai"}),
}


@dataclass(frozen=True, slots=True)
class Upstream:
    """`token` is the node's own: it reads files (a hub limits strangers more), and only from this endpoint. It never decides
    who may see what: a client that the hub would refuse is not let in by a token that somebody else configured."""

    name: str
    hub: Hub
    endpoint: str
    priority: int = 0  # lower is asked first
    token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None  # instead of the system's
    trusted: bool = False  # its bytes count as the hub's own, whatever its host and scheme

    @property
    def home(self) -> Url:
        """Raises ConfigError."""
        try:
            return Url.parse(self.endpoint.rstrip("/"))
        except ValueError:
            raise ConfigError(
                f"The endpoint of upstream {self.name} is not a plain http or https address.",
                next_step="Write it like https://huggingface.co; a token goes into token_file.",
            ) from None

    @property
    def vouches(self) -> bool:
        """Whether bytes read from it are the hub's own word (grade OWN): the hub's own host over TLS, or one so marked.
        Redirects change nothing: they are the hub's word as well, and https never leads to http."""
        home = self.home
        return self.trusted or (home.scheme == "https" and home.host in OWN_HOSTS[self.hub])

    def client_token(self, access: Access) -> str | None:
        """The client's own credential, which only the hub itself (no mirror) may see."""
        return access.token if self.vouches else None

    def refuse_own_gateway(self, ports: Collection[int]) -> None:
        """Raises ConfigError if the endpoint is our own gateway: asking ourselves for what we lack would never end."""
        home = self.home
        if home.port in ports and is_own(home.host):
            raise ConfigError(
                f"The endpoint of upstream {self.name} is this daemon's own gateway.",
                next_step="Name the hub itself; HF_ENDPOINT is for clients.",
            )
