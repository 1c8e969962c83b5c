"""`drover server`: what an organisation runs."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from drover import logs
from drover.cli import oidc_options, options
from drover.cli.output import print_json
from drover.errors import InputError
from drover.model.units import format_size
from drover.store.location import ADDRESS, data_folder, location, postgresql, shown
from drover.store.vault import KEY_FILE

app = typer.Typer(invoke_without_command=True)


@app.callback()
def server(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")] = 8443,
    name: Annotated[
        list[str], typer.Option("--name", metavar="NAME", help="A name that clients know this host by. Repeatable.")
    ] = [],  # noqa: B006
    certificate: Annotated[
        Path | None, typer.Option("--certificate", metavar="FILE", help="PEM. Default: one of an authority of its own.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="The certificate's, PEM.")] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url",
            metavar="URL",
            help="postgresql://USER@HOST/DATABASE, which several servers may share. A password has no place here: it "
            "is in ~/.pgpass (PGPASSFILE), or the whole address in DROVER_DATABASE_URL or the data folder's file "
            "database-url. Default: SQLite in the data folder.",
        ),
    ] = None,
    runs_at_once: Annotated[
        int, typer.Option("--runs-at-once", min=1, metavar="N", help="Plans and single VMs carried out at a time.")
    ] = 100,
    vault_key: Annotated[
        Path | None,
        typer.Option(
            "--vault-key",
            metavar="FILE",
            envvar=KEY_FILE,
            help="The key of the secrets in the database. Default: vault.key in the data folder, made at first start.",
        ),
    ] = None,
    oidc_issuer: oidc_options.Issuer = None,
    oidc_client_id: oidc_options.ClientId = None,
    oidc_client_secret_file: oidc_options.SecretFile = None,
    oidc_role: oidc_options.RoleOf = [],  # noqa: B006
    oidc_claim: oidc_options.Claim = "groups",
    oidc_authority: oidc_options.AuthorityFile = None,
    public_url: oidc_options.PublicUrl = None,
    log_format: Annotated[
        str, typer.Option("--log-format", metavar="json|text", envvar=logs.FORMAT, help="Of what goes to stderr.")
    ] = "text",
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="debug|info|warning|error", envvar=logs.LEVEL)
    ] = "info",
    json: options.Json = False,
) -> None:
    """Serve plans, migrations and users over HTTPS. The data folder is that of the other commands (DROVER_DATA).

    Migrations are processes of their own: they go on while the server is stopped or dead, and the next one finds them.
    """
    if context.invoked_subcommand is not None:
        return
    # Half a second that no other verb is to wait for.
    from drover.server import certificates
    from drover.server.serve import serve

    # For the processes that it starts as well.
    logs.configure(log_format, log_level)
    folder = data_folder()
    # Migrations are started for this folder, whatever the server's working directory.
    os.environ["DROVER_DATA"] = str(folder)
    if vault_key is not None:
        # For them, too.
        os.environ[KEY_FILE] = str(vault_key.absolute())
    if database_url is not None:
        if postgresql(database_url, "--database-url").password is not None:
            raise InputError(
                "--database-url has a password, which every user of this host can read in the list of processes",
                remedy=f"put it into ~/.pgpass, or the whole address into {ADDRESS}",
            )
        os.environ[ADDRESS] = database_url
    if (certificate is None) != (key is None):
        raise InputError("--certificate and --key go together", remedy="give both, or neither")
    if certificate is not None and key is not None:
        files = certificates.given(certificate, key)
    else:
        files = certificates.own(folder / "tls", [*name, host])

    provider = oidc_options.provider(
        issuer=oidc_issuer,
        client_id=oidc_client_id,
        secret_file=oidc_client_secret_file,
        roles=oidc_role,
        claim=oidc_claim,
        authority=oidc_authority,
        public_url=public_url or f"https://{next(iter(name), host)}:{port}",
    )

    def say(password: str | None, at: int) -> None:
        address = f"https://{f'[{host}]' if ':' in host else host}:{at}"
        if json:
            authority = None if files.authority is None else str(files.authority)
            print_json({"event": "serving", "url": address, "authority": authority, "one_time_password": password})
            return
        console = Console(highlight=False, soft_wrap=True)
        database = location(folder)
        where = f"{folder}, database {shown(database)}" if database.drivername != "sqlite" else str(folder)
        console.print(f"Drover serves {address}, data in {where}", markup=False)
        if files.authority is not None:
            console.print(f"its authority, for clients: {files.authority}", markup=False)
        if password is not None:
            console.print(
                f"first start: log in as [bold]admin[/] with the one-time password [bold]{password}[/] and change it; "
                "it is not shown again"
            )

    serve(folder, host=host, port=port, files=files, runs_at_once=runs_at_once, on_start=say, provider=provider)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to. It is for this user only: it holds keys.")],
    json: options.Json = False,
) -> None:
    """Write all that a server knows into a file: database, workflows, keys, certificates. Also while it runs."""
    from drover.server.backup import backup as make

    manifest = make(data_folder(), file)
    size = file.stat().st_size
    if json:
        print_json({"event": "backup", "file": str(file), "bytes": size, "database": manifest.database})
        return
    Console(highlight=False, soft_wrap=True).print(
        f"{file} holds {format_size(size)}, keys included: keep it where nobody else reads it", markup=False
    )


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    force: Annotated[bool, typer.Option("--force", help="Replace what is there; its files are set aside.")] = False,
    json: options.Json = False,
) -> None:
    """Put a backup in place. No server may run. One that is damaged, or would replace something, changes nothing."""
    from drover.server.backup import restore as put

    manifest = put(data_folder(), file, force=force)
    if json:
        print_json({"event": "restored", "file": str(file), "made_at": manifest.made_at, "drover": manifest.drover})
        return
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.made_at))
    Console(highlight=False, soft_wrap=True).print(f"restored what was backed up {made}", markup=False)
