"""Sessions, oneself, users, tokens, and the audit log."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from drover.accounts.identity import Identity, Token, User
from drover.accounts.roles import Role, Scope
from drover.errors import InputError
from drover.server.access import Administrator, Anybody, Viewer, source_of
from drover.server.conditional import IfMatch, etag, require
from drover.server.context import Context, Stores
from drover.server.once import Key, once
from drover.server.paging import After, Limit, part
from drover.server.problems import ForbiddenError, MissingError, answers
from drover.server.views import Page

router = APIRouter(prefix="/v1", tags=["people"])
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$")]
Secret = Annotated[str, Field(min_length=1, max_length=1000)]
_Pattern = Annotated[str, Field(min_length=1, max_length=255)]


class ScopeView(BaseModel):
    """Plans and sites by name or pattern; empty is all."""

    plans: list[_Pattern] = []
    sites: list[_Pattern] = []

    def scope(self) -> Scope:
        return Scope(plans=tuple(self.plans), sites=tuple(self.sites))

    @classmethod
    def of(cls, scope: Scope) -> "ScopeView":
        return cls(plans=list(scope.plans), sites=list(scope.sites))


class LogIn(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=255)]
    password: Secret


class Me(BaseModel):
    name: str
    role: Role
    scope: ScopeView
    kind: str
    must_change_password: bool

    @classmethod
    def of(cls, identity: Identity) -> "Me":
        return cls(
            name=identity.name,
            role=identity.role,
            scope=ScopeView.of(identity.scope),
            kind=identity.kind,
            must_change_password=identity.must_change_password,
        )


class Session(Me):
    secret: str


class NewPassword(BaseModel):
    old: Secret
    new: Secret


class UserChange(BaseModel):
    role: Role | None = None
    scope: ScopeView | None = None
    disabled: bool | None = None


class NewUser(BaseModel):
    name: Name
    role: Role
    scope: ScopeView = ScopeView()


class UserView(BaseModel):
    name: str
    role: Role
    scope: ScopeView
    disabled: bool
    must_change_password: bool
    created_at: float

    @classmethod
    def of(cls, user: User) -> "UserView":
        return cls(**{**vars(user), "scope": ScopeView.of(user.scope)})


class Users(Page):
    items: list[UserView]


class OneTime(BaseModel):
    """Shown once; to be changed at the first log-in."""

    one_time_password: str


class NewToken(BaseModel):
    name: Name
    role: Role
    scope: ScopeView = ScopeView()
    expires_in_seconds: float | None = Field(default=90 * 86400.0, gt=0, le=10 * 366 * 86400)


class TokenView(BaseModel):
    id: str
    user: str
    name: str
    role: Role
    scope: ScopeView
    created_at: float
    expires_at: float | None
    last_used_at: float | None

    @classmethod
    def of(cls, token: Token) -> "TokenView":
        return cls(**{**vars(token), "scope": ScopeView.of(token.scope)})


class MadeToken(TokenView):
    """Its secret is shown once."""

    secret: str


class Tokens(Page):
    items: list[TokenView]


class AuditEntry(BaseModel):
    number: int
    at: float
    who: str
    what: str
    target: str
    source: str
    outcome: str
    detail: dict[str, Any]


class AuditEntries(BaseModel):
    items: list[AuditEntry]
    next: int | None = Field(description="`before` of the part that follows")


@router.post("/sessions", status_code=201, responses=answers(429))
def log_in(body: LogIn, request: Request, stores: Stores) -> Session:
    """Log in; `secret` goes into `Authorization: Bearer`. It lasts 12 h, or 1 h without use."""
    # A password that is typed in the place of the name is not to be in the audit log.
    request.state.who = body.name if stores.accounts.knows(body.name) else "nobody known"
    secret, identity = stores.accounts.log_in(body.name, body.password, source=source_of(request))
    return Session(**Me.of(identity).model_dump(), secret=secret)


@router.delete("/sessions/current", status_code=204, responses=answers())
def log_out(identity: Anybody, stores: Stores) -> None:
    """End this session; a token stays."""
    stores.accounts.log_out(identity)


@router.get("/me", responses=answers())
def who_am_i(identity: Anybody) -> Me:
    """Whoever asks."""
    return Me.of(identity)


@router.put("/me/password", status_code=204, responses=answers())
def change_password(body: NewPassword, identity: Anybody, stores: Stores) -> None:
    """Change one's password; all other sessions end."""
    if identity.kind == "token":
        raise ForbiddenError("a token changes no password", remedy="log in")
    stores.accounts.change_password(identity.name, body.old, body.new, keep=identity)


@router.get("/users", responses=answers())
def users(
    _: Administrator,
    stores: Stores,
    limit: Limit = 1000,
    after: After = None,
    role: Annotated[list[Role], Query(description="Any of these")] = [],  # noqa: B006
) -> Users:
    """All users, by name."""
    wanted = [user for user in stores.accounts.users() if not role or user.role in role]
    found, following = part(wanted, lambda user: user.name, limit, after)
    return Users(items=[UserView.of(user) for user in found], next=following)


@router.post("/users", status_code=201, responses=answers(409))
def add_user(
    body: NewUser, identity: Administrator, stores: Stores, request: Request, idempotency_key: Key = None
) -> OneTime:
    """Add a user, who logs in with the one-time password of the answer."""

    def act() -> OneTime:
        made = stores.accounts.add_user(body.name, body.role, body.scope.scope())
        assert made is not None
        return OneTime(one_time_password=made)

    return once(stores, identity, request, idempotency_key, body, OneTime, act, secret=True)


@router.get("/users/{name}", responses=answers(304, 404))
def user(name: str, _: Administrator, stores: Stores, response: Response) -> UserView:
    """A user."""
    view = _user(stores, name)
    response.headers["ETag"] = etag(view)
    return view


@router.patch("/users/{name}", responses=answers(404, 412))
def change_user(
    name: str, body: UserChange, _: Administrator, stores: Stores, response: Response, if_match: IfMatch = None
) -> UserView:
    """Change what a user may do; it holds at once."""
    require(if_match, _user(stores, name), f"the user {name}")
    scope = None if body.scope is None else body.scope.scope()
    stores.accounts.change_user(name, role=body.role, scope=scope, disabled=body.disabled)
    view = _user(stores, name)
    response.headers["ETag"] = etag(view)
    return view


@router.post("/users/{name}/password", responses=answers(404, 409))
def reset_password(
    name: str, identity: Administrator, stores: Stores, request: Request, idempotency_key: Key = None
) -> OneTime:
    """A one-time password for a user who has forgotten theirs; all their sessions end."""
    _user(stores, name)

    def act() -> OneTime:
        return OneTime(one_time_password=stores.accounts.reset_password(name))

    return once(stores, identity, request, idempotency_key, None, OneTime, act, secret=True)


@router.delete("/users/{name}", status_code=204, responses=answers(404, 412))
def remove_user(name: str, _: Administrator, stores: Stores, if_match: IfMatch = None) -> None:
    """Remove a user with all their sessions and tokens."""
    require(if_match, _user(stores, name), f"the user {name}")
    stores.accounts.remove_user(name)


def _user(stores: Context, name: str) -> UserView:
    """Raises MissingError."""
    try:
        return UserView.of(stores.accounts.user(name))
    except InputError as error:
        raise MissingError(error.message, remedy="`GET /v1/users` lists them") from None


@router.get("/tokens", responses=answers())
def tokens(
    identity: Viewer,
    stores: Stores,
    limit: Limit = 1000,
    after: After = None,
    user: Annotated[str | None, Query(max_length=255, description="Of this user")] = None,
) -> Tokens:
    """One's own tokens, by id; an administrator sees all."""
    if identity.role is not Role.ADMINISTRATOR:
        user = identity.name
    wanted = sorted(stores.accounts.tokens(user), key=lambda token: token.id)
    found, following = part(wanted, lambda token: token.id, limit, after)
    return Tokens(items=[TokenView.of(token) for token in found], next=following)


@router.post("/tokens", status_code=201, responses=answers(409))
def add_token(
    body: NewToken, identity: Viewer, stores: Stores, request: Request, idempotency_key: Key = None
) -> MadeToken:
    """Make an API token of one's own, which may never do more than oneself."""
    if identity.kind == "token":
        raise ForbiddenError("a token makes no tokens", remedy="log in")

    def act() -> MadeToken:
        scope, lasts = body.scope.scope(), body.expires_in_seconds
        secret, token = stores.accounts.add_token(identity.name, body.name, body.role, scope, lasts)
        return MadeToken(**TokenView.of(token).model_dump(), secret=secret)

    return once(stores, identity, request, idempotency_key, body, MadeToken, act, secret=True)


@router.delete("/tokens/{token_id}", status_code=204, responses=answers(404))
def revoke_token(token_id: str, identity: Viewer, stores: Stores) -> None:
    """Revoke a token, `current` for the one that asks; it is refused from now on."""
    token_id = identity.credential if token_id == "current" else token_id
    own = {token.id for token in stores.accounts.tokens(identity.name)}
    if identity.role is not Role.ADMINISTRATOR and token_id not in own:
        raise ForbiddenError(f"the token {token_id} is not yours", remedy="ask an administrator of the server")
    stores.accounts.revoke_token(token_id)


@router.get("/audit", responses=answers())
def audit(
    _: Administrator,
    stores: Stores,
    limit: Limit = 100,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    who: Annotated[str | None, Query(max_length=255)] = None,
    what: Annotated[str | None, Query(max_length=255, description="As an entry says it")] = None,
    since: Annotated[float | None, Query(ge=0, le=1e12, description="Unix seconds")] = None,
) -> AuditEntries:
    """What was changed or tried, newest first: by whom, from where, with which outcome."""
    entries = stores.audit.entries(before=before, limit=limit, who=who, what=what, since=since)
    items = [AuditEntry(**{k: v for k, v in asdict(entry).items() if k != "hash"}) for entry in entries]
    return AuditEntries(items=items, next=items[-1].number if len(items) == limit else None)


@router.get("/audit/verification", responses=answers())
def verify_audit(_: Administrator, stores: Stores, response: Response) -> dict[str, int | None]:
    """Whether the log is as it was written: the number of the first entry that does not fit, or null."""
    response.headers["Cache-Control"] = "no-store"
    broken = stores.audit.verify()
    return {"first_broken": None if broken is None else broken.number}
