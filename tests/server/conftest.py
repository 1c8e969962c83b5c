"""A server in this process, with people and plans; its migrations are records without VMs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.testclient import TestClient

from drover.accounts.roles import Role, Scope
from drover.server.app import application
from drover.server.context import Context
from drover.store.location import FILE
from drover.store.sites import Site
from tests.postgresql import Cluster

PLAN = "version: 1\nplan: office\nfrom: alpha\nto: beta\nvms: [web]\n"
URIS = {"alpha": "qemu:///a?socket=/nowhere/a", "beta": "qemu:///b?socket=/nowhere/b"}


@dataclass(frozen=True)
class Served:
    """The application, who may call it, and what it works on."""

    app: FastAPI
    client: TestClient
    context: Context
    secrets: dict[str, str]

    def call(self, method: str, path: str, *, who: str | None = "boss", **given: object) -> "object":
        headers = dict(given.pop("headers", {}))  # type: ignore[call-overload]
        if who is not None:
            headers["Authorization"] = f"Bearer {self.secrets[who]}"
        return self.client.request(method, path, headers=headers, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """On SQLite, or on what the module asks for by `parametrize("served", …, indirect=True)`."""
    folder: Path = tmp_path_factory.mktemp("server")
    if getattr(request, "param", "sqlite") == "postgresql":
        cluster: Cluster = request.getfixturevalue("postgresql")
        (folder / FILE).write_text(cluster.new_database())
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DROVER_DATA", str(folder))
        patched.setattr("drover.accounts.passwords._hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        context = Context.open(folder)
        first = context.accounts.first_start()
        assert first is not None
        context.accounts.change_password("admin", first, "the first password")
        secrets = {"boss": _member(context, "boss", Role.ADMINISTRATOR)}
        secrets["hand"] = _member(context, "hand", Role.OPERATOR)
        secrets["eye"] = _member(context, "eye", Role.VIEWER)
        secrets["guest"] = _member(context, "guest", Role.OPERATOR, Scope(plans=("guest-*",), sites=("alpha",)))
        for name, uri in URIS.items():
            context.sites.put(Site(name=name, uri=uri))
        app = application(context)
        with TestClient(app, base_url="https://drover", raise_server_exceptions=False) as client:
            yield Served(app, client, context, secrets)


def _member(context: Context, name: str, role: Role, scope: Scope = Scope()) -> str:  # noqa: B008
    context.accounts.add_user(name, role, scope, "a password of some length")
    secret, _ = context.accounts.add_token(name, "test", role, scope)
    return secret
