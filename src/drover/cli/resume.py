"""`drover resume`: goes on with a migration that was interrupted, paused or held."""

from typing import Annotated

import typer

from drover.cli import options
from drover.cli.asked import carry_out
from drover.cli.remote import connected, no_devices
from drover.cli.view import watch
from drover.store import MigrationStore


def resume(
    migration_id: Annotated[str, typer.Argument(metavar="ID", help="The migration, as `drover status` lists it.")],
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
    """Go on with a migration from wherever it stands; only what changed or was not acknowledged is sent again."""
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
    if (remote := connected()) is not None:
        no_devices(device)
        carry_out(
            remote, f"/v1/migrations/{migration_id}/resume", given.model_dump(mode="json", exclude_none=True), json=json
        )
        return
    store = MigrationStore()
    migration = store.get(migration_id)
    watch(store, migration, json=json, changes=given.given(), devices=device)
