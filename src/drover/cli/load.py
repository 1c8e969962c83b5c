"""`drover device load`: several VMs at once onto the same transport devices; their migrations then go on as always."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from drover.cli import options, whom
from drover.cli.foretell import foretell
from drover.cli.plan_run import carry_out
from drover.cli.several import Watcher, check_all
from drover.errors import InputError
from drover.plans.site import Resolved
from drover.replicator.parallel import run_all
from drover.replicator.record import plan_all
from drover.store import MigrationStore


def load(
    vms: whom.Vms = None,
    source: whom.From = None,
    destination: whom.To = None,
    plan: whom.PlanFile = None,
    group: whom.Group = None,
    device: options.Device = [],  # noqa: B006
    network: options.Network = [],  # noqa: B006
    pool: options.Pool = [],  # noqa: B006
    format: options.Format = [],  # noqa: B006
    cutover: options.CutoverMode = None,
    max_downtime: options.MaxDowntime = None,
    target_time: options.TargetTime = None,
    shutdown_timeout: options.ShutdownTimeout = None,
    bandwidth: options.Bandwidth = None,
    max_latency: options.MaxLatency = None,
    write_backpressure: options.WriteBackpressure = None,
    write_floor: options.WriteFloor = None,
    on_read_error: options.ReadErrors = None,
    connections: options.Connections = None,
    compression: options.Compression = None,
    destination_address: options.DestinationAddress = None,
    rest_by_network: options.RestByNetwork = None,
    shipping: options.Shipping = None,
    json: options.Json = False,
) -> None:
    """Migrate several VMs at once with the same devices: each is checked first, then all are loaded side by side.

    Once they are loaded the migrations go on: the VMs' writes go over the network until `drover device unload`, then
    each cuts over. With --plan all of the plan, or of a group, is loaded at once, whatever its order; groups cut over
    behind their barriers.
    """
    if not device:
        raise InputError(
            "no transport device was named", remedy="give --device PATH, or use `drover migrate` for each VM"
        )
    given = options.settings(
        cutover=cutover,
        max_downtime=max_downtime,
        target_time=target_time,
        shutdown_timeout=shutdown_timeout,
        bandwidth=bandwidth,
        max_latency=max_latency,
        write_backpressure=write_backpressure,
        write_floor=write_floor,
        on_read_error=on_read_error,
        connections=connections,
        compression=compression,
        destination_address=destination_address,
        rest_by_network=rest_by_network,
    )
    asked = whom.whom(vms, source, destination, plan, group)
    if asked.planned is not None and plan is not None:
        if network or pool or format:
            raise InputError(
                "with --plan networks, pools and formats come from the plan", remedy="write them there, as exceptions"
            )
        _load_plan(plan, group, asked.planned, device, given, json=json)
        return
    sites = asked.source, asked.destination
    specs = [options.specification(vm, *sites, network, pool, format, **given) for vm in asked.vms]
    store = MigrationStore()
    reports = check_all(specs, store, device, json=json)
    migrations = plan_all(specs, reports, store)
    watcher = Watcher(store, json=json)
    for migration in migrations:
        watcher.planned(migration)
        foretell(store, migration, shipping=shipping, json=json)
    if code := run_all(migrations, watcher.show):
        raise typer.Exit(code)


def _load_plan(
    file: Path, group: str | None, planned: Resolved, devices: list[str], given: Mapping[str, Any], *, json: bool
) -> None:
    batches = [
        replace(
            batch,
            after=(),
            members=tuple(replace(member, spec=member.spec.model_copy(update=dict(given))) for member in batch.members),
        )
        for batch in planned.batches
    ]
    words = ["drover device load --plan", str(file), *([] if group is None else ["--group", group])]
    again = " ".join([*words, *(f"--device {path}" for path in devices)])
    everything = sum(len(batch.members) for batch in batches)
    whole = replace(planned, batches=batches)
    carry_out(whole, at_once=everything, devices=devices, again=again, json=json, in_order=False)
