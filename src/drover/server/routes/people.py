"""Sessions, oneself, users, tokens, and the audit log."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from drover.accounts.identity import Identity, Token, User
from drover.accounts.roles import Role, Scope
from drover.server.access import Administrator, Anybody, Viewer, source_of
from drover.server.context import Stores
from drover.server.paging import Limit
from drover.server.problems import ForbiddenError, answers

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


class Users(BaseModel):
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


class Tokens(BaseModel):
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
def users(_: Administrator, stores: Stores) -> Users:
    """All users."""
    return Users(items=[UserView.of(user) for user in stores.accounts.users()])


@router.post("/users", status_code=201, responses=answers(409))
def add_user(body: NewUser, _: Administrator, stores: Stores) -> OneTime:
    """Add a user, who logs in with the one-time password of the answer."""
    made = stores.accounts.add_user(body.name, body.role, body.scope.scope())
    assert made is not None
    return OneTime(one_time_password=made)


@router.patch("/users/{name}", responses=answers(404))
def change_user(name: str, body: UserChange, _: Administrator, stores: Stores) -> UserView:
    """Change what a user may do; it holds at once."""
    scope = None if body.scope is None else body.scope.scope()
    stores.accounts.change_user(name, role=body.role, scope=scope, disabled=body.disabled)
    return UserView.of(stores.accounts.user(name))


@router.post("/users/{name}/password", responses=answers(404))
def reset_password(name: str, _: Administrator, stores: Stores) -> OneTime:
    """A one-time password for a user who has forgotten theirs; all their sessions end."""
    return OneTime(one_time_password=stores.accounts.reset_password(name))


@router.delete("/users/{name}", status_code=204, responses=answers(404))
def remove_user(name: str, _: Administrator, stores: Stores) -> None:
    """Remove a user with all their sessions and tokens."""
    stores.accounts.remove_user(name)


@router.get("/tokens", responses=answers())
def tokens(identity: Viewer, stores: Stores) -> Tokens:
    """One's own tokens; an administrator sees all."""
    user = None if identity.role is Role.ADMINISTRATOR else identity.name
    return Tokens(items=[TokenView.of(token) for token in stores.accounts.tokens(user)])


@router.post("/tokens", status_code=201, responses=answers())
def add_token(body: NewToken, identity: Viewer, stores: Stores) -> MadeToken:
    """Make an API token of one's own, which may never do more than oneself."""
    if identity.kind == "token":
        raise ForbiddenError("a token makes no tokens", remedy="log in")
    scope, lasts = body.scope.scope(), body.expires_in_seconds
    secret, token = stores.accounts.add_token(identity.name, body.name, body.role, scope, lasts)
    return MadeToken(**TokenView.of(token).model_dump(), secret=secret)


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
) -> AuditEntries:
    """What was changed or tried, newest first: by whom, from where, with which outcome."""
    entries = stores.audit.entries(before=before, limit=limit, who=who)
    items = [AuditEntry(**{k: v for k, v in asdict(entry).items() if k != "hash"}) for entry in entries]
    return AuditEntries(items=items, next=items[-1].number if len(items) == limit else None)


@router.get("/audit/verification", responses=answers())
def verify_audit(_: Administrator, stores: Stores, response: Response) -> dict[str, int | None]:
    """Whether the log is as it was written: the number of the first entry that does not fit, or null."""
    response.headers["Cache-Control"] = "no-store"
    broken = stores.audit.verify()
    return {"first_broken": None if broken is None else broken.number}
