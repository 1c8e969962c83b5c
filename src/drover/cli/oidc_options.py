"""`drover server --oidc-…`: the identity provider that may vouch for users."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drover.accounts.roles import Role
from drover.cli.typed import secret_text
from drover.errors import InputError

if TYPE_CHECKING:
    from drover.server.oidc import Provider

Issuer = Annotated[
    str | None,
    typer.Option("--oidc-issuer", metavar="URL", help="Let an identity provider vouch for users (OpenID Connect)."),
]
ClientId = Annotated[
    str | None, typer.Option("--oidc-client-id", metavar="ID", help="As what it is registered at the provider.")
]
SecretFile = Annotated[Path | None, typer.Option("--oidc-client-secret-file", metavar="FILE", help="One line.")]
RoleOf = Annotated[
    list[str],
    typer.Option(
        "--oidc-role",
        metavar="GROUP=ROLE",
        help="Who is in this group there is that here. Repeatable. Others stay out",
    ),
]
Claim = Annotated[str, typer.Option("--oidc-claim", metavar="CLAIM", help="Of the ID token, in which the groups are.")]
AuthorityFile = Annotated[
    Path | None,
    typer.Option("--oidc-authority", metavar="FILE", help="PEM, if the provider's certificate needs its own."),
]
PublicUrl = Annotated[
    str | None,
    typer.Option(
        "--public-url",
        metavar="URL",
        help="Where browsers reach this server; URL/v1/oidc/callback is to be registered at the provider. Default: "
        "the first --name, else the host, with the port.",
    ),
]


def provider(
    *,
    issuer: str | None,
    client_id: str | None,
    secret_file: Path | None,
    roles: list[str],
    claim: str,
    authority: Path | None,
    public_url: str,
) -> "Provider | None":
    """None if no issuer is given. Raises InputError."""
    if issuer is None:
        if client_id or secret_file or roles or authority:
            raise InputError("--oidc-… options need an issuer", remedy="give --oidc-issuer URL as well")
        return None
    if client_id is None or secret_file is None:
        raise InputError(
            "--oidc-issuer needs --oidc-client-id and --oidc-client-secret-file",
            remedy="register this server at the provider, and give what it says",
        )
    from drover.server.oidc import Provider

    return Provider(
        issuer=issuer,
        client_id=client_id,
        secret=secret_text("client secret", secret_file),
        public_url=public_url,
        roles=dict(_role(one) for one in roles),
        claim=claim,
        authority=authority,
    )


def _role(pair: str) -> tuple[str, Role]:
    group, _, role = pair.rpartition("=")
    if not group or role not in tuple(Role):
        raise InputError(
            f"--oidc-role {pair!r} is not a role of a group", remedy=f"write GROUP= and one of {', '.join(Role)}"
        )
    return group, Role(role)
