"""A small real OpenID provider by Authlib, over TLS on loopback. Whoever comes is logged in as `user`, unasked."""

import json
import secrets
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from authlib.oauth2.rfc6749 import AuthorizationServer, OAuth2Request, grants
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import OpenIDCode, UserInfo
from joserfc.jwk import ECKey, KeySet

from tests.unit.alert_servers import Authority

CLIENT, SECRET = "drover", "pl4nted-client-secret"


@dataclass
class Client:
    """The one that is registered."""

    redirect: str

    def get_client_id(self) -> str:
        return CLIENT

    def get_default_redirect_uri(self) -> str:
        return self.redirect

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, uri: str) -> bool:
        return uri == self.redirect

    def check_client_secret(self, secret: str) -> bool:
        return secrets.compare_digest(secret, SECRET)

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_response_type(self, kind: str) -> bool:
        return kind == "code"

    def check_grant_type(self, kind: str) -> bool:
        return kind == "authorization_code"


@dataclass
class Code:
    """An authorization code that was given out."""

    code: str
    redirect_uri: str
    scope: str
    nonce: str | None
    user: dict[str, Any]
    code_challenge: str | None
    code_challenge_method: str | None
    auth_time: int = field(default_factory=lambda: int(time.time()))

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> int:
        return self.auth_time

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


class _Request(OAuth2Request):  # type: ignore[misc]
    def __init__(self, method: str, uri: str, headers: dict[str, str], form: dict[str, str]) -> None:
        super().__init__(method, uri, headers=headers)
        self._form = form
        self.payload = BasicOAuth2Payload({**self.args, **form})

    @property
    def args(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.uri).query))

    @property
    def form(self) -> dict[str, str]:
        return self._form


class _Server(AuthorizationServer):  # type: ignore[misc]
    def __init__(self, provider: "OpenIdProvider") -> None:
        super().__init__()
        self.provider = provider
        self.register_token_generator("default", _token)
        self.register_grant(_Grant, [_Pkce(required=True), _IdToken(require_nonce=True)])

    def query_client(self, client_id: str) -> Client | None:
        return self.provider.client if client_id == CLIENT else None

    def save_token(self, token: Any, request: Any) -> None:
        """Nobody asks for them again."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def create_oauth2_request(self, request: _Request) -> _Request:
        return request

    def handle_response(self, status: int, body: Any, headers: Any) -> tuple[int, Any, dict[str, str]]:
        return status, body, dict(headers)


def _token(**_: Any) -> dict[str, Any]:
    return {"token_type": "Bearer", "access_token": secrets.token_urlsafe(16), "expires_in": 60, "scope": "openid"}


class _Grant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic",)

    def save_authorization_code(self, code: str, request: Any) -> None:
        asked = request.payload.data
        self.server.provider.codes[code] = Code(
            code=code,
            redirect_uri=asked["redirect_uri"],
            scope=asked["scope"],
            nonce=asked.get("nonce"),
            user=request.user,
            code_challenge=asked.get("code_challenge"),
            code_challenge_method=asked.get("code_challenge_method"),
        )

    def query_authorization_code(self, code: str, _client: Any) -> Code | None:
        found: Code | None = self.server.provider.codes.get(code)
        return found

    def delete_authorization_code(self, code: Code) -> None:
        del self.server.provider.codes[code.code]

    def authenticate_user(self, code: Code) -> dict[str, Any]:
        return code.user


class _Pkce(CodeChallenge):  # type: ignore[misc]
    pass


class _IdToken(OpenIDCode):  # type: ignore[misc]
    def __call__(self, grant: Any) -> None:
        self.provider = grant.server.provider
        super().__call__(grant)

    def exists_nonce(self, nonce: str, _request: Any) -> bool:
        return any(code.nonce == nonce for code in self.provider.codes.values())

    def resolve_client_private_key(self, _client: Any) -> ECKey:
        key: ECKey = self.provider.signing_key
        return key

    def get_client_algorithm(self, _client: Any) -> str:
        return "ES256"

    def get_encode_header(self, _client: Any) -> dict[str, str]:
        return {"alg": "ES256", "kid": self.provider.key.kid}

    def get_client_claims(self, _client: Any) -> dict[str, Any]:
        return {"iss": self.provider.issuer, "aud": [CLIENT], **self.provider.claims}

    def generate_user_info(self, user: dict[str, Any], _scope: str) -> UserInfo:
        return UserInfo(user)

    def get_authorization_code_claims(self, authorization_code: Code) -> dict[str, Any]:
        return {**super().get_authorization_code_claims(authorization_code), **self.provider.claims}


class OpenIdProvider:
    """`claims` replaces claims of the ID tokens, as a provider that lies would."""

    def __init__(self, authority: Authority, redirect: str) -> None:
        self.client = Client(redirect)
        self.codes: dict[str, Code] = {}
        self.user: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.key = self.signing_key = ECKey.generate_key("P-256", {"kid": "one", "use": "sig", "alg": "ES256"})
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._answer(self, provider._get(self.path, dict(self.headers)))

            def do_POST(self) -> None:
                form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                request = _Request("POST", provider.issuer + self.path, dict(self.headers), form)
                provider._answer(self, _Server(provider).create_token_response(request))

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.socket = authority.server.wrap_socket(self._http.socket, server_side=True)
        self.issuer = f"https://localhost:{self._http.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _get(self, path: str, headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        if path == "/.well-known/openid-configuration":
            return 200, self._configuration(), {}
        if path == "/jwks":
            return 200, KeySet([self.key]).as_dict(private=False), {}
        request, server = _Request("GET", self.issuer + path, headers, {}), _Server(self)
        grant = server.get_consent_grant(request, self.user)
        answer: tuple[int, Any, dict[str, str]] = server.create_authorization_response(request, self.user, grant)
        return answer

    def _configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    @staticmethod
    def _answer(handler: BaseHTTPRequestHandler, answer: tuple[int, Any, dict[str, str]]) -> None:
        status, body, headers = answer
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)
