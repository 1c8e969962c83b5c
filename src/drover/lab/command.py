"""The verbs of `drover lab`."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from drover.errors import InputError
from drover.lab.lab import FOLDER_VARIABLE, SOURCE, Lab
from drover.lab.link import LinkChanges
from drover.lab.programs import require_root
from drover.lab.report import describe, tables
from drover.lab.site import Site
from drover.model.units import parse_duration, parse_rate, parse_size

app = typer.Typer(no_args_is_help=True, help="Two sites on this machine, to try Drover without any hardware.")
vm_app = typer.Typer(no_args_is_help=True, help="The lab's VMs.")
app.add_typer(vm_app, name="vm")
_out = Console(soft_wrap=True)

_Size = Annotated[str, typer.Option(help="Size of both VDISKs of a VM together, as in 512MiB.")]
_Pattern = Annotated[str, typer.Option(help="What a VM writes: append, random, rewrite-hot, idle; load: all it can.")]
_Rate = Annotated[float, typer.Option(help="Writes per second of a VM.")]
_SiteOption = Annotated[str, typer.Option("--site", help="The site, alpha or beta.")]
_Name = Annotated[str, typer.Argument(help="The VM's name.")]


@app.callback()
def choose_folder(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Option(envvar=FOLDER_VARIABLE, help="The lab's folder; .lab here if not given.")
    ] = None,
) -> None:
    """Two sites on this machine, to try Drover without any hardware. Needs root."""
    context.obj = folder


@app.command()
def up(
    context: typer.Context,
    vms: Annotated[int, typer.Option(min=0, help="How many VMs the lab is to have: vm-1, vm-2, …")] = 1,
    size: _Size = "512MiB",
    pattern: _Pattern = "append",
    rate: _Rate = 50.0,
) -> None:
    """Bring the lab up: whatever is not there is made, whatever is down is started."""
    lab = _lab(context)
    total = parse_size(size)
    nothing = True
    for done in lab.coming_up():
        nothing = False
        _out.print(done)
    if nothing:
        _out.print("both sites and the link are up already")
    for number in range(1, vms + 1):
        _out.print(_vm_up(lab, f"vm-{number}", total, pattern, rate))


@app.command()
def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show sites, VMs and the link."""
    described = describe(_lab(context))
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    for table in tables(described):
        _out.print(table)


@app.command()
def down(context: typer.Context) -> None:
    """Cut the power: VMs, daemons, namespaces and the link end; the VDISKs stay."""
    _print_done(_lab(context).down(), "nothing was up")


@app.command()
def reset(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take the lab down and delete all of it, VDISKs included."""
    lab = _lab(context)
    if not yes:
        typer.confirm(f"Delete the lab in {lab.folder} with its VMs and VDISKs?", abort=True)
    _print_done(lab.reset(), "there was nothing to delete")


@app.command()
def link(
    context: typer.Context,
    rate: Annotated[str | None, typer.Option(help="Bandwidth each way, as in 200mbit; none for no limit.")] = None,
    delay: Annotated[str | None, typer.Option(help="Delay each way, as in 40ms.")] = None,
    jitter: Annotated[str | None, typer.Option(help="How much the delay varies, as in 2ms.")] = None,
    loss: Annotated[str | None, typer.Option(help="Share of packets lost, as in 0.1%.")] = None,
    cut: Annotated[bool | None, typer.Option("--cut/--heal", help="Cut the line, or join it again.")] = None,
) -> None:
    """Set how the link between the sites behaves; without an option, show it."""
    lab = _lab(context)
    changes: LinkChanges = {}
    if rate is not None:
        changes["rate"] = None if rate == "none" else parse_rate(rate)
    if delay is not None:
        changes["delay"] = parse_duration(delay)
    if jitter is not None:
        changes["jitter"] = parse_duration(jitter)
    if loss is not None:
        changes["loss"] = parse_share(loss)
    if cut is not None:
        changes["cut"] = cut
    settings = lab.link.set(**changes) if changes else lab.link.get()
    _out.print(settings.sentence())


@app.command()
def console(
    context: typer.Context,
    name: _Name,
    site: Annotated[str | None, typer.Option(help="The site; where the VM runs if not given.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Show what a VM said on its serial console."""
    lab = _lab(context)
    chosen = lab.site(site) if site else _where(lab, name)
    said = chosen.console(name)
    sys.stdout.write(said)
    while follow:
        sys.stdout.flush()
        time.sleep(0.2)
        more = chosen.console(name)
        sys.stdout.write(more[len(said) :])
        said = more


@app.command()
def enter(
    context: typer.Context,
    site: Annotated[str, typer.Argument(help="The site, alpha or beta.")],
    command: Annotated[list[str] | None, typer.Argument(help="What to run; a shell if not given.")] = None,
) -> None:
    """Run a command, or a shell, as if logged in to a site. Put -- before a command that has options."""
    line = _lab(context).site(site).enter(*(command or [os.environ.get("SHELL", "/bin/sh")]))
    os.execvp(line[0], line)


@vm_app.command("add")
def vm_add(
    context: typer.Context,
    name: _Name,
    site: _SiteOption = SOURCE,
    formats: Annotated[str, typer.Option("--format", help="Formats of the system and records VDISKs.")] = "raw,qcow2",
    size: _Size = "512MiB",
    pattern: _Pattern = "append",
    rate: _Rate = 50.0,
) -> None:
    """Make a VM with two VDISKs and start it."""
    lab = _lab(context)
    chosen = tuple(formats.split(","))
    lab.add_vm(name, site=site, formats=chosen, size=parse_size(size), pattern=pattern, rate=rate)
    _out.print(f"{site}: {name} made and started")


@vm_app.command("start")
def vm_start(context: typer.Context, name: _Name, site: _SiteOption = SOURCE) -> None:
    """Start a VM at a site. libvirt refuses what must not be started."""
    _lab(context).site(site).start(name)
    _out.print(f"{site}: {name} started")


@vm_app.command("remove")
def vm_remove(context: typer.Context, name: _Name, site: _SiteOption = SOURCE) -> None:
    """Power a VM off and delete it from a site, VDISKs and console included."""
    _lab(context).site(site).remove(name)
    _out.print(f"{site}: {name} and its VDISKs deleted")


@vm_app.command("check")
def vm_check(
    context: typer.Context,
    name: _Name,
    timeout: Annotated[str, typer.Option(help="How long to wait for the verdict.")] = "1m",
) -> None:
    """Have the witness of a running VM check all its records; fail if a write was ever lost."""
    lab = _lab(context)
    _out.print(lab.check_vm(name, timeout=parse_duration(timeout)))


def parse_share(text: str) -> float:
    """The share in `text`, such as `0.1%` or `0.001`: 0 to 1. Raises InputError."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f"{text!r} is not a share of packets", remedy="write it as in 0.1% or 0.001")
    return share


def _lab(context: typer.Context) -> Lab:
    require_root()
    folder: Path | None = context.obj
    return Lab(folder)


def _vm_up(lab: Lab, name: str, size: int, pattern: str, rate: float) -> str:
    """Sees that the VM exists and runs at one site; says what was done."""
    states = {site.name: state for site in lab.sites if (state := site.state(name)) is not None}
    running = [site for site, state in states.items() if state not in ("off", "crashed")]
    if running:
        return f"{running[0]}: {name} is there already, {states[running[0]]}"
    if not states:
        lab.add_vm(name, size=size, pattern=pattern, rate=rate)
        return f"{SOURCE}: {name} made and started"
    if len(states) > 1:
        # Which of them holds the newer VDISKs is not the lab's to guess.
        return (
            f"{name} is off at both sites; start it where it belongs, as in: drover lab vm start {name} --site {SOURCE}"
        )
    site = next(iter(states))
    lab.site(site).start(name)
    return f"{site}: {name} started"


def _where(lab: Lab, name: str) -> Site:
    known = [site for site in lab.sites if site.state(name) is not None]
    if not known:
        raise InputError(f"no site has a VM {name}", remedy="see `drover lab status`")
    return next((site for site in known if site.state(name) == "running"), known[-1])


def _print_done(lines: list[str], otherwise: str) -> None:
    for line in lines or [otherwise]:
        _out.print(line)
