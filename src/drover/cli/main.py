"""`drover`: the verbs, and how an error becomes one line and an exit code."""

import json
import os
import sys

import typer
from rich.console import Console

from drover import __version__, logs
from drover.cli import approve, cancel, check, clean, estimate, login, migrate, pause, remote, resume, status, vms
from drover.cli.alerts import app as alerts
from drover.cli.database import app as database
from drover.cli.device import app as device
from drover.cli.plan import app as plan
from drover.cli.plan_file import export as export_plan
from drover.cli.plan_file import validate as validate_plan
from drover.cli.plan_pin import pin, unpin
from drover.cli.plan_run import run as run_plan
from drover.cli.report_command import report
from drover.cli.secret import app as secret
from drover.cli.server import app as server
from drover.cli.site import app as site
from drover.cli.timeline import timeline
from drover.errors import DroverError
from drover.hardening import harden
from drover.lab.command import app as lab
from drover.platforms.libvirt import credentials
from drover.store import CredentialStore

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
app.command("report")(report)
app.command("vms")(vms.vms)
app.command("approve")(approve.approve)
app.command("pause")(pause.pause)
app.command("resume")(resume.resume)
app.command("cancel")(cancel.cancel)
app.command("clean")(clean.clean)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.add_typer(server, name="server")
app.add_typer(site, name="site")
app.add_typer(secret, name="secret")
plan.command("run")(run_plan)
plan.command("timeline")(timeline)
plan.command("pin")(pin)
plan.command("unpin")(unpin)
plan.command("validate")(validate_plan)
plan.command("export")(export_plan)
app.add_typer(plan, name="plan")
app.add_typer(device, name="device")
app.add_typer(alerts, name="alerts")
app.add_typer(database, name="database")
app.add_typer(lab, name="lab")


_log = logs.logger("cli")


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
    log_format: str | None = typer.Option(
        None,
        "--log-format",
        metavar="json|text",
        envvar=logs.FORMAT,
        help="Also write a log to stderr, of what migrations do and what fails. Default: none; the server's is text.",
    ),
    log_level: str | None = typer.Option(
        None, "--log-level", metavar="debug|info|warning|error", envvar=logs.LEVEL, help="Default: info."
    ),
    _: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    if log_format or log_level:
        logs.configure(log_format or "text", log_level or "info")
    if server:
        # Where the verbs find it.
        os.environ[remote.SERVER] = server
        remote.alone(context)


def main() -> None:
    """Runs the command line. An error that Drover raises is one line on stderr and the exit code of its kind."""
    harden()
    credentials.ask(lambda uri: CredentialStore().of(uri))
    try:
        app()
    except DroverError as error:
        _log.error(error.message, remedy=error.remedy)
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
