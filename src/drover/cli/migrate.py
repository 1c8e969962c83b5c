"""`drover migrate`: one VM, from check to certificate."""

from typing import Annotated

import typer
from rich.console import Console

from drover.cli import options
from drover.cli.check import show
from drover.cli.output import print_json
from drover.cli.view import watch
from drover.replicator.check import check
from drover.replicator.migrate import plan
from drover.store import MigrationStore


def migrate(
    vm: Annotated[str, typer.Argument(help="Name or UUID of the VM.")],
    source: options.From,
    destination: options.To,
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
    device: options.Device = [],  # noqa: B006
    rest_by_network: options.RestByNetwork = None,
    json: options.Json = False,
) -> None:
    """Move a running VM to another site: check, replicate, cut over, verify. The source VM is kept, shut off."""
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
    spec = options.specification(vm, source, destination, network, pool, format, **given)
    store = MigrationStore()
    if not json:
        Console().print(f"[dim]checking {vm} …[/]")
    report, _ = check(spec, store, device)
    if json:
        print_json(report.as_json())
    else:
        show(report)
    watch(store, plan(store, spec, report), json=json)
