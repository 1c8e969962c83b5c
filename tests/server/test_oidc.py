"""Log-in by an identity provider: a real one vouches, and nobody else does, whatever is tried."""

import base64
import hashlib
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient
from joserfc.jwk import ECKey

from drover.accounts.roles import Role, Scope
from drover.cli import browser
from drover.cli.oidc_options import provider as from_options
from drover.errors import InputError
from drover.server.app import application
from drover.server.context import Context
from drover.server.oidc import COOKIE, Oidc, Provider
from tests.server.oidc_provider import CLIENT, SECRET, OpenIdProvider
from tests.unit.alert_servers import Authority

URL = "https://drover"
ALICE = {"sub": "0001", "preferred_username": "Alice", "groups": ["staff", "drover-operators"]}


@dataclass
class World:
    """A server, its provider, and a browser for each."""

    context: Context
    client: TestClient
    provider: OpenIdProvider
    outside: httpx2.Client
    oidc: Oidc

    def begin(self, challenge: str, **more: Any) -> Any:
        return self.client.get("/v1/oidc/login", params={"challenge": challenge, **more}, follow_redirects=False)

    def go(self, challenge: str, **more: Any) -> Any:
        """Begins, logs in at the provider, and comes back."""
        there = self.begin(challenge, **more).headers["location"]
        back = self.outside.get(there).headers["location"]
        return self.client.get(back.removeprefix(URL), follow_redirects=False)

    def log_in(self, user: dict[str, Any]) -> Any:
        """The answer to the last step, or to the one that was refused."""
        self.provider.user = user
        verifier, challenge = pair()
        answer = self.go(challenge)
        if answer.status_code != 302:
            return answer
        return self.exchange(code_of(answer), verifier)

    def exchange(self, code: str, verifier: str) -> Any:
        return self.client.post("/v1/oidc/session", json={"code": code, "verifier": verifier})


def pair() -> tuple[str, str]:
    verifier = secrets.token_urlsafe(48)
    return verifier, base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def code_of(answer: Any) -> str:
    return parse_qs(urlsplit(answer.headers["location"]).query)["oidc_code"][0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("oidc")
    authority = Authority(folder / "authority")
    with pytest.MonkeyPatch.context() as patched, OpenIdProvider(authority, f"{URL}/v1/oidc/callback") as provider:
        patched.setenv("DROVER_DATA", str(folder))
        context = Context.open(folder)
        context.accounts.first_start()
        roles = {"staff": Role.VIEWER, "drover-operators": Role.OPERATOR, "drover-admins": Role.ADMINISTRATOR}
        oidc = Oidc(
            Provider(
                issuer=provider.issuer, client_id=CLIENT, secret=SECRET, public_url=URL, roles=roles,
                authority=authority.ca_file,
            ),
            folder,
        )  # fmt: skip
        with (
            TestClient(application(context, oidc=oidc), base_url=URL, raise_server_exceptions=False) as client,
            httpx2.Client(verify=str(authority.ca_file)) as outside,
        ):
            yield World(context, client, provider, outside, oidc)


@pytest.fixture(autouse=True)
def honest(world: World) -> Iterator[None]:
    yield
    world.client.cookies.clear()
    world.provider.claims, world.provider.signing_key = {}, world.provider.key


def test_who_is_vouched_for_gets_a_session_with_the_highest_role_of_their_groups(world: World) -> None:
    answer = world.log_in(ALICE)
    assert answer.status_code == 201, answer.text
    session = answer.json()
    assert (session["name"], session["role"], session["must_change_password"]) == ("alice", "operator", False)
    me = world.client.get("/v1/me", headers={"Authorization": f"Bearer {session['secret']}"})
    assert me.json()["name"] == "alice"
    # The provider's own name for somebody counts, whatever they are called; roles are theirs at each log-in.
    again = world.log_in({**ALICE, "preferred_username": "alice.new", "groups": "staff"}).json()
    assert (again["name"], again["role"]) == ("alice", "viewer")
    me = world.client.get("/v1/me", headers={"Authorization": f"Bearer {session['secret']}"})
    assert me.json()["role"] == "viewer", "the older session as well"
    assert world.client.post("/v1/sessions", json={"name": "alice", "password": "!"}).status_code == 401
    log = world.context.audit.entries(limit=1, what="POST /v1/oidc/session")
    assert log[0].who == "alice" and log[0].outcome == "done"


def test_nobody_becomes_another_by_their_name(world: World) -> None:
    world.context.accounts.add_user("carol", Role.OPERATOR)
    for name in ("admin", "ADMIN", "carol"):
        told = world.log_in({"sub": f"evil-{name}", "preferred_username": name, "groups": ["drover-admins"]})
        assert told.status_code == 401 and "does not vouch for" in told.json()["detail"]
    assert world.log_in({"sub": "x", "preferred_username": "///", "groups": ["staff"]}).status_code == 401


def test_who_has_no_role_or_is_disabled_stays_out(world: World) -> None:
    told = world.log_in({"sub": "2", "preferred_username": "mallory", "groups": ["visitors"]})
    assert told.status_code == 401 and "groups" in told.json()["detail"]
    assert not world.context.accounts.knows("mallory")
    assert world.log_in({"sub": "3", "preferred_username": "bob", "groups": ["staff"]}).status_code == 201
    world.context.accounts.change_user("bob", disabled=True)
    assert world.log_in({"sub": "3", "preferred_username": "bob", "groups": ["staff"]}).status_code == 401
    world.context.accounts.change_user("bob", disabled=False, scope=Scope(plans=("a-*",)))
    told = world.log_in({"sub": "3", "preferred_username": "bob", "groups": ["drover-admins"]})
    assert told.status_code == 422, "an administrator has no scope"


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"}, {"aud": ["another"]}, {"iss": "https://another.example.org"},
        {"exp": int(time.time()) - 3600}, {"iat": int(time.time()) + 3600}, {"azp": "another"}, {"at_hash": "AAAA"},
    ],
    ids=lambda claims: next(iter(claims)),
)  # fmt: skip
def test_a_token_that_is_not_for_this_log_in_is_not_believed(world: World, claims: dict[str, Any]) -> None:
    world.provider.claims = claims
    # The library works its own at_hash out, unless the user's claims have one.
    answer = world.log_in({**ALICE, **claims})
    assert answer.status_code == 401 and "not to be believed" in answer.json()["detail"], answer.text


def test_a_token_signed_by_another_key_is_not_believed(world: World) -> None:
    world.provider.signing_key = ECKey.generate_key("P-256", {"kid": "one"})
    answer = world.log_in(ALICE)
    assert answer.status_code == 401 and "not to be believed" in answer.json()["detail"]


def test_an_answer_of_another_log_in_is_refused(world: World) -> None:
    world.provider.user = ALICE
    _, challenge = pair()
    first = world.begin(challenge).headers["location"]
    world.begin(challenge)
    back = world.outside.get(first).headers["location"].removeprefix(URL)
    told = world.client.get(back, follow_redirects=False)
    assert told.status_code == 401 and "another log-in" in told.json()["detail"]
    world.client.cookies.clear()
    told = world.client.get(back, follow_redirects=False)
    assert told.status_code == 401 and "elsewhere" in told.json()["detail"]
    told = world.client.get("/v1/oidc/callback?error=access_denied&state=x", follow_redirects=False)
    assert told.status_code == 401


def test_the_verifier_of_the_log_in_is_needed_at_the_provider(world: World) -> None:
    """PKCE: a code that was caught on the way is worth nothing with another log-in's verifier."""
    world.provider.user = ALICE
    _, challenge = pair()
    caught = parse_qs(urlsplit(world.outside.get(world.begin(challenge).headers["location"]).headers["location"]).query)
    own = parse_qs(urlsplit(world.begin(challenge).headers["location"]).query)
    assert own["code_challenge_method"] == ["S256"] and own["nonce"] and own["state"]
    answer = world.client.get("/v1/oidc/callback", params={"code": caught["code"][0], "state": own["state"][0]},
                              follow_redirects=False)  # fmt: skip
    assert answer.status_code == 401 and "refused the code: invalid_grant" in answer.json()["detail"]


def test_a_code_is_for_who_began_and_once(world: World) -> None:
    world.provider.user = ALICE
    verifier, challenge = pair()
    answer = world.go(challenge)
    assert answer.headers["location"].startswith("/?oidc_code=") and answer.headers["cache-control"] == "no-store"
    code = code_of(answer)
    assert world.exchange(code, pair()[0]).status_code == 401
    changed = code[:60] + ("A" if code[60] != "A" else "B") + code[61:]
    assert world.exchange(changed, verifier).status_code == 401
    assert world.exchange(code, verifier).status_code == 201
    assert "used already" in world.exchange(code, verifier).json()["detail"]


def test_the_cookie_is_for_the_server_alone_and_shows_nothing(world: World) -> None:
    set_cookie = world.begin(pair()[1]).headers["set-cookie"]
    assert set_cookie.startswith(f"{COOKIE}=")
    for word in ("Secure", "HttpOnly", "SameSite=lax", "Path=/", "Max-Age=600"):
        assert word in set_cookie
    assert "verifier" not in set_cookie and "Domain" not in set_cookie
    sealed = set_cookie.partition("=")[2].partition(";")[0]
    assert world.exchange(sealed, pair()[0]).status_code == 401, "it is not a code"
    for challenge in ("short", "x" * 44, "x" * 42 + "!"):
        assert world.begin(challenge).status_code == 422
    assert world.begin(pair()[1], port=80).status_code == 422


def test_a_command_gets_its_session_by_a_browser(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.provider.user = ALICE

    class Asked:
        url = URL

        def post(self, path: str, body: Any) -> Any:
            answer = world.client.post(path, json=body)
            assert answer.status_code == 201, answer.text
            return answer.json()

    def surf(url: str) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        answer = world.go(query["challenge"], port=query["port"])
        threading.Thread(target=httpx2.get, args=(answer.headers["location"],)).start()

    monkeypatch.setattr(browser.webbrowser, "open", surf)
    remote: Any = Asked()
    assert browser.session_by_browser(remote)["name"] == "alice"


def test_without_a_provider_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path))
    client = TestClient(application(Context.open(tmp_path)), base_url=URL)
    assert client.get("/v1/oidc").json() == {"enabled": False, "issuer": None}
    assert client.get("/v1/oidc/login", params={"challenge": pair()[1]}).status_code == 404


def test_a_provider_that_does_not_answer_as_it_should_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.oidc, "_metadata", None)
    monkeypatch.setattr(world.provider, "issuer", "https://another.example.org")
    told = world.begin(pair()[1])
    assert told.status_code == 502 and "calls itself" in told.json()["detail"]
    monkeypatch.setattr(world.oidc, "provider", replace(world.oidc.provider, issuer="https://127.0.0.1:1"))
    told = world.begin(pair()[1])
    assert told.status_code == 502 and "does not answer" in told.json()["detail"]


def test_options_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    good: dict[str, Any] = {
        "issuer": "https://login.example.org", "client_id": "drover", "secret_file": tmp_path / "secret",
        "roles": ["staff=viewer"], "claim": "groups", "authority": None, "public_url": URL,
    }  # fmt: skip
    made = from_options(**good)
    assert made is not None and made.secret == SECRET and SECRET not in repr(made)
    assert from_options(**{**good, "issuer": None, "client_id": None, "secret_file": None, "roles": []}) is None
    wrong: list[dict[str, Any]] = [
        {"issuer": None}, {"client_id": None}, {"secret_file": None}, {"secret_file": tmp_path / "none"}, {"roles": []},
        {"roles": ["staff"]}, {"roles": ["staff=boss"]}, {"issuer": "http://login.example.org"}, {"public_url": "x"},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(InputError):
            from_options(**{**good, **change})


def test_without_the_extra_it_says_what_to_install(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "authlib.integrations.httpx_client", None)
    with pytest.raises(InputError, match="drover\\[oidc\\]"):
        Oidc(world.oidc.provider, tmp_path)
