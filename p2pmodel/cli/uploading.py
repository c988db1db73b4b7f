"""Uploading a folder by its hub's own library, which knows how: parts, retries, what is there already, renewed tokens.

Both are optional (`pip install "p2pmodel[push]"`) and imported when used. What an upload that was interrupted has brought
to the hub is not sent again.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from p2pmodel.content.naming import Hub, Repo
from p2pmodel.errors import (
    ConfigError,
    NotAuthorisedError,
    NotFoundError,
    P2pmodelError,
    RateLimitedError,
    StoreError,
    UnavailableError,
)
from p2pmodel.settings import UpstreamSettings

_REFUSED: Final = {401: NotAuthorisedError, 403: NotAuthorisedError, 404: NotFoundError, 507: StoreError}
_TOO_MANY: Final = 429


@dataclass(frozen=True, slots=True)
class Upload:
    folder: Path
    repo: Repo
    revision: str
    message: str
    private: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    quiet: bool
    token: str = field(repr=False)


def upload(wanted: Upload, upstream: UpstreamSettings) -> str:
    """Returns the revision that holds the files now: a commit, where the hub tells. Raises P2pmodelError."""
    if upstream.ca_file is not None:
        os.environ.setdefault("SSL_CERT_FILE", str(upstream.ca_file))
        os.environ.setdefault("REQUESTS_CA_BUNDLE", str(upstream.ca_file))
    library, send = _SENDERS[wanted.repo.hub]
    try:
        module = import_module(library)
    except ImportError:
        raise ConfigError(f"Uploading needs {library}.", next_step='Install it: pip install "p2pmodel[push]".') from None
    try:
        with redirect_stdout(sys.stderr):  # what they tell people, while our stdout carries the result
            return send(module, wanted, upstream.endpoint)
    except _failures() as error:
        if getattr(error, "filename", None):  # this machine's disk
            raise
        raise _told(error, wanted.repo) from error


def _failures() -> tuple[type[Exception], ...]:
    """What the libraries raise about requests: OSErrors mostly, and those of whichever HTTP client they stand on."""
    known = (("httpx", "HTTPError"), ("httpx2", "HTTPError"), ("modelscope_hub.errors", "HubError"))
    below = (getattr(sys.modules.get(module), name, None) for module, name in known)
    return (OSError, *(kind for kind in below if kind is not None))


def _huggingface(library: Any, wanted: Upload, endpoint: str) -> str:  # noqa: ANN401  # typed only where it is installed
    if wanted.quiet:
        import_module(f"{library.__name__}.utils").disable_progress_bars()
    api = library.HfApi(endpoint=endpoint, token=wanted.token, library_name="p2pmodel")
    where = {"repo_id": wanted.repo.name, "repo_type": wanted.repo.kind.value}
    # Where a token may not make repos and this one exists, it chokes on the address of any hub but huggingface.co.
    with suppress(ValueError):
        api.create_repo(**where, private=wanted.private, exist_ok=True)
    done = api.upload_folder(
        **where,
        folder_path=wanted.folder,
        revision=wanted.revision,
        commit_message=wanted.message,
        allow_patterns=list(wanted.include) or None,
        ignore_patterns=list(wanted.exclude) or None,
    )
    return str(done.oid)


def _modelscope(library: Any, wanted: Upload, endpoint: str) -> str:  # noqa: ANN401
    """It does not tell the commit; the branch is asked for."""
    api = library.HubApi(endpoint=endpoint, token=wanted.token)
    kind, name = wanted.repo.kind.value, wanted.repo.name
    with suppress(import_module(f"{library.__name__}.errors").AlreadyExistsError):
        api.create_repo(name, kind, visibility="private" if wanted.private else "public")
    resume = _resume_file(wanted)
    api.upload_folder(
        name,
        kind,
        wanted.folder,
        commit_message=wanted.message,
        revision=wanted.revision,
        allow_patterns=list(wanted.include) or None,
        ignore_patterns=list(wanted.exclude) or None,
        disable_tqdm=wanted.quiet,
        use_cache=True,
        tracker_path=resume,
    )
    resume.unlink(missing_ok=True)  # next time the hub is asked what it has
    return wanted.revision


def _resume_file(wanted: Upload) -> Path:
    """What the library remembers of an upload that was interrupted: beside this user's other caches, not in the folder."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p2pmodel" / "push"
    caches.mkdir(parents=True, exist_ok=True)
    name = f"{wanted.folder} {wanted.repo.hub} {wanted.repo} {wanted.revision}"
    return caches / hashlib.sha256(name.encode()).hexdigest()


def _told(error: Exception, repo: Repo) -> P2pmodelError:
    """The branch of failure that a status means. A message may quote an address, never a credential."""
    answer = getattr(error, "response", None)
    status = getattr(answer, "status_code", None) or getattr(error, "status_code", None)
    if status is None:
        return UnavailableError(f"The hub cannot be reached: {type(error).__name__}.", next_step="The same command resumes.")
    if status == _TOO_MANY:
        return RateLimitedError("The hub asks for patience; the same command resumes.", retry_after_s=_patience(answer))
    kind = _REFUSED.get(status, UnavailableError)
    return kind(f"The hub answered {status} for {repo}.", next_step="Check the name, and that your token may write there.")


def _patience(answer: Any) -> float:  # noqa: ANN401  # a response of either library
    headers: Mapping[str, str] = getattr(answer, "headers", {})
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 60.0


_SENDERS: Final[dict[Hub, tuple[str, Callable[[Any, Upload, str], str]]]] = {
    Hub.HUGGINGFACE: ("huggingface_hub", _huggingface),
    Hub.MODELSCOPE: ("modelscope_hub", _modelscope),
}
