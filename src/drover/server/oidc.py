"""Log-in by an identity provider: OpenID Connect's authorization code flow with PKCE, state and nonce.

The browser keeps what a log-in began with in a sealed cookie, so that any server that shares the database can end it.
Whoever began it gets a code bound to a verifier of theirs (PKCE once more, RFC 7636) and exchanges it for a session, so
that no address, history or log holds one.
"""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from cryptography.fernet import Fernet, InvalidToken

from drover.accounts.errors import AccessError
from drover.accounts.roles import Role
from drover.alerts import tls
from drover.errors import InputError
from drover.server.problems import UpstreamError
from drover.store import Vault

COOKIE = "__Host-drover-oidc"
BEGUN_LASTS, CODE_LASTS = 600, 60
"""Seconds: for logging in at the provider, and from then to the session."""
_KEY = "server/log-in"
_REFRESH = 3600.0
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
"""Signatures by keys that the provider publishes: neither `none` nor by a shared secret."""
_TIMEOUT = 20.0


@dataclass(frozen=True, kw_only=True)
class Provider:
    """Whom the server believes, as what it is known there, and which groups there are which roles here."""

    issuer: str
    client_id: str
    secret: str = field(repr=False)
    public_url: str
    """Of this server, as browsers reach it."""
    roles: Mapping[str, Role]
    claim: str = "groups"
    """Of the ID token: a text or a list of them."""
    authority: Path | None = None
    """PEM, of those that sign the provider's certificate; None for those of the system."""

    def __post_init__(self) -> None:
        for url, what in ((self.issuer, "--oidc-issuer"), (self.public_url, "--public-url")):
            if urlsplit(url).scheme != "https" or not urlsplit(url).hostname:
                raise InputError(f"{what} {url!r} is not an https:// address", remedy="write it as in https://HOST")
        if not self.roles:
            raise InputError(
                "nobody could log in by OIDC: no group has a role", remedy="give --oidc-role GROUP=viewer, and more"
            )

    @property
    def redirect(self) -> str:
        """To be registered at the provider."""
        return f"{self.public_url.rstrip('/')}/v1/oidc/callback"

    def role_of(self, claims: Mapping[str, Any]) -> Role:
        """The highest of somebody's roles. Raises AccessError if there is none."""
        said = claims.get(self.claim, ())
        groups = {said} if isinstance(said, str) else {one for one in said if isinstance(one, str)}
        given = [role for group, role in self.roles.items() if group in groups]
        if not given:
            raise AccessError(
                f"none of your groups (claim {self.claim}) may log in here", remedy="ask an administrator of the server"
            )
        return max(given, key=list(Role).index)


@dataclass(frozen=True, kw_only=True)
class Person:
    """Whom the provider vouched for."""

    subject: str
    wanted_name: str
    role: Role


class Oidc:
    """Log-ins by one provider."""

    def __init__(self, provider: Provider, folder: Path) -> None:
        """Raises InputError if the extra is not installed."""
        try:
            import authlib.integrations.httpx_client  # noqa: F401
            import joserfc  # noqa: F401
        except ImportError:
            raise InputError(
                "log-in by OIDC is not installed", remedy="pip install 'drover[oidc]', or leave --oidc-issuer out"
            ) from None
        self.provider = provider
        self._fernet = Fernet(_key(folder))
        self._metadata: tuple[float, dict[str, Any]] | None = None

    def begin(self, challenge: str, port: int | None) -> tuple[str, str]:
        """The provider's address to go to, and the cookie. Raises UpstreamError if the provider does not answer."""
        begun = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
        with self._client() as client:
            url, _ = client.create_authorization_url(
                self._known(client)["authorization_endpoint"],
                state=begun["state"],
                nonce=begun["nonce"],
                code_verifier=begun["verifier"],
            )
        return str(url), self._seal({**begun, "challenge": challenge, "port": port})

    def finish(self, query: Mapping[str, str], cookie: str | None) -> tuple[Person, str, int | None]:
        """Who logged in, the challenge it began with, and the port. Raises AccessError, UpstreamError."""
        begun = self._open(cookie or "", BEGUN_LASTS)
        if not secrets.compare_digest(query.get("state", "").encode(), str(begun["state"]).encode()):
            raise AccessError("this answer belongs to another log-in", remedy="begin again, in one window")
        if "iss" in query and query["iss"] != self.provider.issuer:
            raise AccessError("this answer is another provider's", remedy="begin again")
        if "error" in query:
            raise AccessError(
                f"the identity provider refused: {query['error'][:100]}", remedy="begin again, or ask its administrator"
            )
        claims = self._claims(query.get("code", ""), begun)
        wanted = claims.get("preferred_username") or claims.get("email") or claims["sub"]
        person = Person(subject=str(claims["sub"]), wanted_name=str(wanted), role=self.provider.role_of(claims))
        return person, str(begun["challenge"]), begun["port"]

    def code_for(self, name: str, challenge: str) -> str:
        """What is exchanged for a session of this user by whoever has the challenge's verifier."""
        return self._seal({"name": name, "challenge": challenge, "once": secrets.token_urlsafe(16)})

    def redeem(self, code: str, verifier: str) -> tuple[str, str]:
        """The user's name, and what is to be used once. Raises AccessError."""
        told = self._open(code, CODE_LASTS)
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
        if "once" not in told or not secrets.compare_digest(digest, str(told["challenge"]).encode()):
            raise AccessError("this code is not for whoever asks", remedy="begin again")
        return str(told["name"]), str(told["once"])

    def _claims(self, code: str, begun: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of the ID token, checked. Raises AccessError, UpstreamError."""
        from authlib.integrations.base_client import OAuthError
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        with self._client() as client:
            known = self._known(client)
            try:
                token = client.fetch_token(known["token_endpoint"], code=code, code_verifier=begun["verifier"])
                keys = KeySet.import_key_set(self._get(client, known["jwks_uri"]))
                signed = jwt.decode(str(token["id_token"]), keys, algorithms=_ALGORITHMS)
                options = {"iss": {"value": self.provider.issuer}, "aud": {"value": self.provider.client_id}}
                params = {
                    "nonce": begun["nonce"],
                    "client_id": self.provider.client_id,
                    "access_token": token.get("access_token"),
                }
                claims = CodeIDToken(signed.claims, signed.header, options, params)
                claims.validate(leeway=60)
            except OAuthError as error:
                # Its description may repeat what was sent.
                raise AccessError(
                    f"the identity provider refused the code: {error.error}", remedy="begin again"
                ) from None
            except (JoseError, KeyError, ValueError, TypeError) as error:
                raise AccessError(
                    f"the identity provider's token is not to be believed: {type(error).__name__}",
                    remedy="begin again, and see that both clocks are right",
                ) from None
            except httpx2.HTTPError as error:
                raise self._silent(error) from None
        return dict(claims)

    def _client(self) -> Any:
        from authlib.integrations.httpx_client import OAuth2Client

        provider = self.provider
        return OAuth2Client(
            provider.client_id, provider.secret, scope="openid profile email", redirect_uri=provider.redirect,
            code_challenge_method="S256", verify=tls.context(provider.authority), timeout=_TIMEOUT, trust_env=False,
        )  # fmt: skip

    def _known(self, client: Any) -> dict[str, Any]:
        if self._metadata is None or time.monotonic() - self._metadata[0] > _REFRESH:
            found = self._get(client, f"{self.provider.issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self.provider.issuer:
                raise UpstreamError(
                    f"{self.provider.issuer} calls itself {found.get('issuer')!r}",
                    remedy="give --oidc-issuer exactly as the provider calls itself",
                )
            places = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            if any(urlsplit(str(found.get(place))).scheme != "https" for place in places):
                raise UpstreamError(
                    f"{self.provider.issuer} does not say where to log in over https", remedy="see its configuration"
                )
            self._metadata = time.monotonic(), found
        return self._metadata[1]

    def _get(self, client: Any, url: str) -> Any:
        try:
            answer = client.request("GET", url, withhold_token=True)
            answer.raise_for_status()
            return answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise self._silent(error) from None

    def _silent(self, error: Exception) -> UpstreamError:
        return UpstreamError(
            f"the identity provider {self.provider.issuer} does not answer as it should: {error}",
            remedy="see that it runs, and give --oidc-authority if it has a certificate of its own",
        )

    def _seal(self, told: Mapping[str, Any]) -> str:
        return self._fernet.encrypt(json.dumps(told).encode()).decode()

    def _open(self, sealed: str, lasts: int) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads(self._fernet.decrypt(sealed.encode(), ttl=lasts))
        except (InvalidToken, ValueError):
            raise AccessError("this log-in was begun elsewhere, or too long ago", remedy="begin again") from None
        return told


def _key(folder: Path) -> bytes:
    """The same for all servers that share the database."""
    vault = Vault(folder)
    if (kept := vault.get(_KEY)) is None:
        vault.put(_KEY, Fernet.generate_key())
        kept = vault.get(_KEY)
    assert kept is not None
    return kept
