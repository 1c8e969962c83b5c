"""Who asks, and whether they may: a session's or a token's secret in `Authorization: Bearer`."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from drover import logs
from drover.accounts.errors import AccessError
from drover.accounts.identity import Identity
from drover.accounts.roles import Role
from drover.server.context import Stores
from drover.server.problems import ForbiddenError

_bearer = HTTPBearer(auto_error=False, description="The secret of a session (`POST /v1/sessions`) or an API token.")


def source_of(request: Request) -> str:
    """The address that a request came from."""
    return request.client.host if request.client else "unknown"


def _known(
    request: Request, stores: Stores, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Identity:
    if given is None:
        raise AccessError(
            "nobody is logged in", remedy="send `Authorization: Bearer SECRET` with a session's or a token's secret"
        )
    identity = stores.accounts.authenticate(given.credentials)
    request.state.who = identity.name
    logs.note(user=identity.name)
    return identity


def needs(role: Role, *, password_pending: bool = False) -> Callable[[Identity], Identity]:
    """A dependency: whoever asks has this role at least, and has changed their one-time password."""

    def check(identity: Annotated[Identity, Depends(_known)]) -> Identity:
        if identity.must_change_password and not password_pending:
            raise ForbiddenError(
                f"{identity.name} logged in with a one-time password", remedy="change it: `PUT /v1/me/password`"
            )
        if not identity.role.covers(role):
            raise ForbiddenError(
                f"{identity.name} is {identity.role} here, and that takes {role}",
                remedy="ask an administrator of the server",
            )
        return identity

    return check


Anybody = Annotated[Identity, Depends(needs(Role.VIEWER, password_pending=True))]
Viewer = Annotated[Identity, Depends(needs(Role.VIEWER))]
Operator = Annotated[Identity, Depends(needs(Role.OPERATOR))]
Administrator = Annotated[Identity, Depends(needs(Role.ADMINISTRATOR))]
