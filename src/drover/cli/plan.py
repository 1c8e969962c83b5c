"""`drover plan`: what an organisation hands to Drover, as a file."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drover.cli import options
from drover.cli.output import print_json
from drover.cli.plan_pin import words_of
from drover.cli.remote import not_at_a_server
from drover.model.migration import Spec
from drover.model.order import Limits
from drover.model.plan import Plan
from drover.model.profile import Profile
from drover.model.settings import Settings
from drover.model.units import format_duration, format_rate
from drover.model.vm import Vm
from drover.plans.batch import Batch, Member
from drover.plans.site import Resolved, read

app = typer.Typer(no_args_is_help=True, help="Plans: files that say which VMs and groups go where, and how.")

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="The plan, as YAML. `drover plan schema` says what it holds.")
]
_DURATIONS = ("max_downtime", "target_time", "shutdown_timeout")
_RATES = ("bandwidth", "write_floor")


@app.command()
def show(file: File, json: options.Json = False) -> None:
    """Check a plan against the VMs at its source, and show what it comes to. Changes nothing."""
    not_at_a_server("plan show")
    resolved = read(file)
    if json:
        print_json(_as_json(resolved))
        return
    plan, console = resolved.plan, Console(highlight=False)
    console.print(
        f"[bold]{plan.plan}[/]: from {escape(plan.source)} to {escape(plan.destination)}, {plan.at_once} VMs at once"
        f"{_limits(plan.limits)}",
        soft_wrap=True,
    )
    console.print(_table(resolved))


@app.command()
def schema(json: options.Json = False) -> None:
    """Print the JSON Schema of plans, for editors and programs that write plans."""
    described = Plan.model_json_schema()
    if json:
        print_json(described)
    else:
        print(json_module.dumps(described, indent=2))


def _table(resolved: Resolved) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("group", "after", "VM", "starts", "networks", "VDISKs", "settings"):
        table.add_column(title)
    for batch in resolved.batches:
        for number, member in enumerate(batch.members):
            name = escape(batch.name) if batch.group and not number else ""
            after = _order(batch) if not number else ""
            table.add_row(name, after, *map(escape, _cells(batch, member, resolved.vms[member.uuid])))
    return table


def _cells(batch: Batch, member: Member, vm: Vm) -> tuple[str, str, str, str, str]:
    networks = [f"{name} → {to}" for name, to in _networks(member.spec, vm).items()]
    vdisks = [f"{one['name']} → {_place(one)}" for one in _vdisks(member.spec, vm)]
    settings = [f"{name} {_said(name, value)}" for name, value in _settings(member.spec).items()]
    return member.vm, _start(batch, member), "\n".join(networks), "\n".join(vdisks), "\n".join(settings)


def _limits(limits: Limits) -> str:
    said = {"host": limits.per_host, "pool": limits.per_pool, "link": limits.per_link}
    return "".join(f", {most} per {where}" for where, most in said.items() if most is not None)


def _order(batch: Batch) -> str:
    """What is said of when it begins."""
    said = [", ".join(batch.after)] if batch.after else []
    said += [f"priority {batch.priority}"] if batch.priority else []
    said += [f"pinned {words_of(batch.pin)}"] if batch.pin is not None else []
    return "\n".join(said)


def _start(batch: Batch, member: Member) -> str:
    """Where the turns of a group differ: which one is this VM's, counted from 1."""
    turns = sorted({one.turn for one in batch.members})
    if len(turns) == 1:
        return ""
    return f"{turns.index(member.turn) + 1}." + (f" {format_duration(member.delay)} later" if member.delay else "")


def _networks(spec: Spec, vm: Vm) -> dict[str, str]:
    return {name: spec.networks.get(name, name) for name in vm.networks}


def _vdisks(spec: Spec, vm: Vm) -> list[dict[str, str | None]]:
    """Where each goes; None is left to what is found there: its only pool, the format that the pool holds."""
    return [
        {
            "name": vdisk.name,
            "pool": spec.pools.get(vdisk.name, spec.pools.get("")),
            "format": spec.formats.get(vdisk.name, spec.formats.get("")),
        }
        for vdisk in vm.vdisks
    ]


def _place(vdisk: dict[str, str | None]) -> str:
    pool = vdisk["pool"] or "the only pool"
    return pool if vdisk["format"] is None else f"{pool} as {vdisk['format']}"


def _settings(spec: Spec) -> dict[str, Any]:
    """Those that differ from the defaults."""
    default = Spec(vm=spec.vm, source=spec.source, destination=spec.destination)
    named = {name: getattr(spec, name) for name in Settings.model_fields}
    named |= {name: getattr(spec, name) for name in ("bandwidth_schedule", "windows", "profile")}
    return {name: value for name, value in named.items() if value != getattr(default, name)}


def _said(name: str, value: Any) -> str:
    if name in _DURATIONS:
        return format_duration(value)
    if name in _RATES:
        return format_rate(value)
    if isinstance(value, Profile):
        return ", ".join(f"{part} {said}" for part, said in value if said is not None)
    if isinstance(value, tuple):
        return "; ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _as_json(resolved: Resolved) -> dict[str, Any]:
    plan = resolved.plan
    return {
        "event": "plan",
        "plan": plan.plan,
        "from": plan.source,
        "to": plan.destination,
        "at_once": plan.at_once,
        "limits": plan.limits.model_dump(),
        "batches": [
            {
                "name": batch.name,
                "group": batch.group,
                "after": batch.after,
                "priority": batch.priority,
                "pin": None if batch.pin is None else batch.pin.model_dump(),
                "members": [_member(member, resolved.vms[member.uuid]) for member in batch.members],
            }
            for batch in resolved.batches
        ],
    }


def _member(member: Member, vm: Vm) -> dict[str, Any]:
    changed = member.spec.model_dump(mode="json", by_alias=True, include=set(_settings(member.spec)))
    return {
        "vm": member.vm,
        "uuid": member.uuid,
        "turn": member.turn,
        "delay_seconds": member.delay,
        "networks": _networks(member.spec, vm),
        "vdisks": _vdisks(member.spec, vm),
        "settings": changed,
    }
