"""`drover`: the verbs, and how an error becomes one line and an exit code."""

import json
import os
import sys

import typer
from rich.console import Console

from drover import __version__
from drover.cli import approve, cancel, check, clean, estimate, login, migrate, pause, remote, resume, status
from drover.cli.alerts import app as alerts
from drover.cli.database import app as database
from drover.cli.device import app as device
from drover.cli.plan import app as plan
from drover.cli.plan_run import run as run_plan
from drover.cli.server import app as server
from drover.cli.site import app as site
from drover.errors import DroverError
from drover.lab.command import app as lab

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Moves running virtual machines to another site while their applications keep working.",
)
app.command("check")(check.check)
app.add_typer(estimate.app, name="estimate")
app.command("what-if")(estimate.what_if)
app.command("migrate")(migrate.migrate)
app.command("status")(status.status)
app.command("approve")(approve.approve)
app.command("pause")(pause.pause)
app.command("resume")(resume.resume)
app.command("cancel")(cancel.cancel)
app.command("clean")(clean.clean)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.add_typer(server, name="server")
app.add_typer(site, name="site")
plan.command("run")(run_plan)
app.add_typer(plan, name="plan")
app.add_typer(device, name="device")
app.add_typer(alerts, name="alerts")
app.add_typer(database, name="database")
app.add_typer(lab, name="lab")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"drover {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    server: str | None = typer.Option(
        None,
        "--server",
        metavar="URL",
        envvar=remote.SERVER,
        help="Ask this management server instead of working from here. `drover login URL` comes first.",
    ),
    _: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    if server:
        # Where the verbs find it.
        os.environ[remote.SERVER] = server
        remote.alone(context)


def main() -> None:
    """Runs the command line. An error that Drover raises is one line on stderr and the exit code of its kind."""
    try:
        app()
    except DroverError as error:
        _explain(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _explain(error: DroverError) -> None:
    if "--json" in sys.argv:
        print(json.dumps({"event": "error", "error": error.message, "remedy": error.remedy}), flush=True)
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("[bold red]drover:[/] ", end="")
    console.print(error.message, markup=False, end="")
    console.print(f" — {error.remedy}" if error.remedy else "", markup=False)
