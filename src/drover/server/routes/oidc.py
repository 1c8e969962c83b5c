"""Log-in by an identity provider (OpenID Connect), for browsers and for those who have one."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from drover import logs
from drover.accounts.errors import AccessError
from drover.server.context import Context, Stores
from drover.server.oidc import BEGUN_LASTS, COOKIE, Oidc
from drover.server.problems import MissingError, answers
from drover.server.routes.people import Me, Session

router = APIRouter(prefix="/v1/oidc", tags=["people"])
_Verifier = Annotated[str, Field(min_length=43, max_length=128, pattern=r"^[A-Za-z0-9._~-]+$")]


class Offer(BaseModel):
    """Whether users may log in so, and at which provider."""

    enabled: bool
    issuer: str | None = None


class Code(BaseModel):
    """What the browser came back with, and the verifier of the challenge that the log-in began with."""

    code: Annotated[str, Field(min_length=1, max_length=2000)]
    verifier: _Verifier


@router.get("", responses=answers())
def offered(request: Request) -> Offer:
    """Whether there is a provider. Anybody may ask."""
    oidc: Oidc | None = request.app.state.oidc
    return Offer(enabled=oidc is not None, issuer=oidc.provider.issuer if oidc else None)


@router.get("/login", status_code=302, response_class=Response, responses=answers(404, 502))
def begin(
    request: Request,
    challenge: Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{43}$", description="S256 of a verifier (RFC 7636)")],
    port: Annotated[int | None, Query(ge=1024, le=65535, description="Of 127.0.0.1, where a command waits")] = None,
) -> Response:
    """To be opened in a browser: leads to the provider, and from there to `callback`."""
    url, cookie = _oidc(request).begin(challenge, port)
    answer = RedirectResponse(url, 302, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
    answer.set_cookie(COOKIE, cookie, max_age=BEGUN_LASTS, secure=True, httponly=True, samesite="lax")
    return answer


@router.get("/callback", status_code=302, response_class=Response, responses=answers(404, 502))
def callback(request: Request, stores: Stores) -> Response:
    """Where the provider sends the browser back to; leads on to `/?oidc_code=…`, or to the command that waits."""
    oidc = _oidc(request)
    person, challenge, port = oidc.finish(dict(request.query_params), request.cookies.get(COOKIE))
    issuer = oidc.provider.issuer
    name = stores.accounts.vouched(issuer, person.subject, person.wanted_name, person.role)
    logs.note(user=name)
    query = urlencode({"oidc_code": oidc.code_for(name, challenge)})
    target = f"/?{query}" if port is None else f"http://127.0.0.1:{port}/?{query}"
    answer = RedirectResponse(target, 302, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
    answer.delete_cookie(COOKIE, secure=True, httponly=True, samesite="lax")
    return answer


@router.post("/session", status_code=201, responses=answers(404, 409))
def exchange(body: Code, request: Request, stores: Stores) -> Session:
    """Exchange a code for a session, once and within a minute; it is as one of `POST /v1/sessions`."""
    name, once = _oidc(request).redeem(body.code, body.verifier)
    request.state.who = name
    _use(stores, once)
    secret, identity = stores.accounts.session_of(name)
    return Session(**Me.of(identity).model_dump(), secret=secret)


def _use(stores: Context, once: str) -> None:
    if stores.answers.begin("oidc", once, "exchange") is not None:
        raise AccessError("this code was used already", remedy="begin again")
    stores.answers.finish("oidc", once, None)


def _oidc(request: Request) -> Oidc:
    oidc: Oidc | None = request.app.state.oidc
    if oidc is None:
        raise MissingError("this server has no identity provider", remedy="log in with a password")
    return oidc
