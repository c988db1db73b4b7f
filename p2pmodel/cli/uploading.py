"""Uploading a folder by its hub's own library, which knows how: retries, what is there already, Xet.

Both are optional (`pip install "p2pmodel[push]"`) and imported when used. What an upload that was interrupted has brought
to the hub is not sent again: files, and parts of a file where the hub takes parts (`parts`). A token that runs out on the way
is read again where its user keeps it, who may have logged in anew.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from p2pmodel.cli import parts
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
from p2pmodel.limits import PUSH_ANSWER_S
from p2pmodel.settings import UpstreamSettings

_REFUSED: Final = {401: NotAuthorisedError, 403: NotAuthorisedError, 404: NotFoundError, 507: StoreError}
_TOO_MANY: Final = 429
#: Its own patience with storage that takes no byte is an hour.
_MODELSCOPE_WAITS: Final = {"MODELSCOPE_UPLOAD_BLOB_READ_TIMEOUT_SECONDS": PUSH_ANSWER_S}


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
    renewed: Callable[[], str | None] = field(repr=False)  # where the token is kept, now


def upload(wanted: Upload, upstream: UpstreamSettings) -> str:
    """Returns the revision that holds the files now: a commit, where the hub tells. Raises P2pmodelError."""
    if upstream.ca_file is not None:
        os.environ.setdefault("SSL_CERT_FILE", str(upstream.ca_file))
        os.environ.setdefault("REQUESTS_CA_BUNDLE", str(upstream.ca_file))
    library, send = _SENDERS[wanted.repo.hub]
    for name, seconds in _MODELSCOPE_WAITS.items():
        os.environ.setdefault(name, str(int(seconds)))
    if wanted.repo.hub is Hub.HUGGINGFACE:  # it reads it once, and understands no other hub's addresses then
        os.environ["HF_ENDPOINT"] = upstream.endpoint
    try:
        module = import_module(library)
    except ImportError:
        raise ConfigError(f"Uploading needs {library}.", next_step='Install it: pip install "p2pmodel[push]".') from None
    while True:
        try:
            with redirect_stdout(sys.stderr):  # what they tell people, while our stdout carries the result
                return send(module, wanted, upstream.endpoint)
        except _failures() as error:
            cause = _cause(error)
            if getattr(cause, "filename", None):  # this machine's disk
                raise cause from error
            told = _told(cause, wanted.repo)
            renewed = wanted.renewed() if isinstance(told, NotAuthorisedError) else None
            if not renewed or renewed == wanted.token:
                raise told from error
            wanted = replace(wanted, token=renewed)


def _failures() -> tuple[type[Exception], ...]:
    """What the libraries raise about requests: OSErrors mostly, those of whichever HTTP client they stand on, and what they,
    or a thread or an extension of theirs, wrap around them."""
    known = (("httpx", "HTTPError"), ("httpx2", "HTTPError"), ("modelscope_hub.errors", "HubError"))
    below = (getattr(sys.modules.get(module), name, None) for module, name in known)
    return (OSError, RuntimeError, ValueError, KeyError, *(kind for kind in below if kind is not None))


def _cause(error: BaseException) -> BaseException:
    """The one that knows what the hub answered, or the disk said."""
    chain, at = [error], error.__cause__
    while at is not None:
        chain.append(at)
        at = at.__cause__
    return next((one for one in chain if _status(one) or getattr(one, "filename", None)), chain[-1])


def _status(error: BaseException) -> int | None:
    answer = getattr(error, "response", None)
    return getattr(answer, "status_code", None) or getattr(error, "status_code", None)


def _huggingface(library: Any, wanted: Upload, endpoint: str) -> str:  # noqa: ANN401  # typed only where it is installed
    utils = import_module(f"{library.__name__}.utils")
    if wanted.quiet:
        utils.disable_progress_bars()
    utils.logging.set_verbosity_error()  # its warnings show addresses that are signed
    library.set_client_factory(partial(_client, import_module(f"{library.__name__}.utils._http").default_client_factory))
    api = library.HfApi(endpoint=endpoint, token=wanted.token, library_name="p2pmodel")
    where = {"repo_id": wanted.repo.name, "repo_type": wanted.repo.kind.value}
    api.create_repo(**where, private=wanted.private, exist_ok=True)
    if not import_module(f"{library.__name__}.utils._runtime").is_xet_available():
        target = parts.Target(
            library=library,
            endpoint=endpoint,
            repo=wanted.repo.name,
            kind=wanted.repo.kind.value,
            revision=wanted.revision,
            records=_remembered(),
            token=wanted.token,
        )
        ignored = [*wanted.exclude, *utils.DEFAULT_IGNORE_PATTERNS]
        found = (path.relative_to(wanted.folder).as_posix() for path in sorted(wanted.folder.rglob("*")) if path.is_file())
        chosen = utils.filter_repo_objects(found, allow_patterns=list(wanted.include) or None, ignore_patterns=ignored)
        parts.send(target, [wanted.folder / path for path in chosen])
    done = api.upload_folder(
        **where,
        folder_path=wanted.folder,
        revision=wanted.revision,
        commit_message=wanted.message,
        allow_patterns=list(wanted.include) or None,
        ignore_patterns=list(wanted.exclude) or None,
    )
    return str(done.oid)


def _client(made: Callable[[], Any]) -> Any:  # noqa: ANN401  # an HTTP client of the library's
    """As the library makes it, but for its patience, which has no end."""
    client = made()
    client.timeout = PUSH_ANSWER_S
    return client


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


def _remembered() -> Path:
    """Where uploads that were interrupted are remembered: beside this user's other caches, not in the folder."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p2pmodel" / "push"
    caches.mkdir(parents=True, exist_ok=True)
    return caches


def _resume_file(wanted: Upload) -> Path:
    """What modelscope's library remembers."""
    name = f"{wanted.folder} {wanted.repo.hub} {wanted.repo} {wanted.revision}"
    return _remembered() / hashlib.sha256(name.encode()).hexdigest()


def _told(error: BaseException, repo: Repo) -> P2pmodelError:
    """The branch of failure that a status means. A message may quote an address, never a credential."""
    status = _status(error)
    if status is None:
        said = f": {error}" if isinstance(error, ValueError) else f": {type(error).__name__}"
        return UnavailableError(f"The upload to {repo} broke off{said}.", next_step="The same command resumes.")
    if status == _TOO_MANY:
        patience = _patience(getattr(error, "response", None))
        return RateLimitedError("The hub asks for patience; the same command resumes.", retry_after_s=patience)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _REFUSED:
        return UnavailableError(f"The hub answered {status} for {repo}.", next_step="The same command resumes.")
    kind = _REFUSED.get(status, UnavailableError)
    return kind(
        f"The hub answered {status} for {repo}.",
        next_step="Check the name, and that your token is valid and may write there; then the same command resumes.",
    )


def _patience(answer: Any) -> float:  # noqa: ANN401  # a response of either library
    headers: Mapping[str, str] = getattr(answer, "headers", {})
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 60.0


_SENDERS: Final[dict[Hub, tuple[str, Callable[[Any, Upload, str], str]]]] = {
    Hub.HUGGINGFACE: ("huggingface_hub", _huggingface),
    Hub.MODELSCOPE: ("modelscope_hub", _modelscope),
}
