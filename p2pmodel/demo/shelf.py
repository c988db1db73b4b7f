"""Which repos there are, under which names, and who may see them."""

from __future__ import annotations

from p2pmodel.content import RepoKind
from p2pmodel.demo.repos import HubRepo, User


class Shelf:
    def __init__(self) -> None:
        self.repos: dict[tuple[RepoKind, str], HubRepo] = {}
        self.users: dict[str, User] = {}  # by token
        self._moved: dict[tuple[RepoKind, str], str] = {}

    def put(self, repo: HubRepo) -> None:
        """Raises ValueError if the name is taken."""
        if (repo.kind, repo.name) in self.repos:
            raise ValueError(f"there is already a {repo.kind} {repo.name}")
        self.repos[repo.kind, repo.name] = repo

    def rename(self, kind: RepoKind, old: str, new: str) -> None:
        """Raises KeyError if there is no such repo, ValueError if the new name is taken."""
        repo = self.repos[kind, old]
        if (kind, new) in self.repos:
            raise ValueError(f"there is already a {kind} {new}")
        del self.repos[kind, old]
        repo.name = new
        self.repos[kind, new] = repo
        self._moved[kind, old] = new

    def find(self, kind: RepoKind, name: str) -> HubRepo | None:
        return self.repos.get((kind, name))

    def moved_to(self, kind: RepoKind, name: str) -> str | None:
        """Today's name of a repo that was renamed, or that was asked for in other letter case."""
        if (kind, name) in self._moved:
            return self._moved[kind, name]
        return next((known for of, known in self.repos if of is kind and known.lower() == name.lower()), None)

    def user(self, token: str | None) -> User | None:
        return None if token is None else self.users.get(token)

    def granted(self, token: str | None, repo: HubRepo) -> bool:
        """Whether this caller may read a repo that is not for everybody."""
        user = self.user(token)
        return user is not None and user.granted(repo)

    def visible(self, kind: RepoKind, token: str | None) -> list[HubRepo]:
        repos = [self.repos[key] for key in sorted(self.repos) if key[0] is kind]
        return [repo for repo in repos if not repo.private or self.granted(token, repo)]
