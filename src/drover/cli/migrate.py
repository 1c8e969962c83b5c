"""`drover migrate`: one VM, from check to certificate."""

from typing import Annotated

import typer
from rich.console import Console

from drover.cli import options
from drover.cli.asked import carry_out
from drover.cli.check import show
from drover.cli.foretell import foretell
from drover.cli.output import print_json
from drover.cli.remote import connected, no_devices
from drover.cli.view import watch
from drover.errors import InputError
from drover.replicator.check import check
from drover.replicator.migrate import plan
from drover.replicator.record import tuned
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
    shipping: options.Shipping = None,
    json: options.Json = False,
) -> None:
    """Move a running VM to another site: check, replicate, cut over, verify. The source VM is kept, shut off."""
    given = options.asked(
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
    if shipping is not None and not device:
        raise InputError("--shipping is about transport devices, and none was named", remedy="add --device PATH")
    if (remote := connected()) is not None:
        no_devices(device)
        body = options.request(vm, source, destination, network, pool, format, given)
        carry_out(remote, "/v1/migrations", body, json=json)
        return
    store = MigrationStore()
    spec = tuned(options.specification(vm, source, destination, network, pool, format, **given.given()), store)
    if not json:
        Console().print(f"[dim]checking {vm} …[/]")
    report, _ = check(spec, store, device)
    if json:
        print_json(report.as_json())
    else:
        show(report)
    migration = plan(store, spec, report)
    foretell(store, migration, shipping=shipping, json=json)
    watch(store, migration, json=json)
