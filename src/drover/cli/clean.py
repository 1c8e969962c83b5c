"""`drover clean`: removes what a lost migration left in a running VM."""

from typing import Annotated

import typer
from rich.console import Console

from drover.cli import options
from drover.cli.output import print_json
from drover.errors import InputError
from drover.platforms.libvirt.capture import Capture
from drover.platforms.libvirt.connection import open_uri
from drover.platforms.libvirt.inventory import describe, find_domain
from drover.platforms.libvirt.latency import LatencyHistograms
from drover.platforms.libvirt.observation import remove_bitmaps
from drover.store import MigrationStore, ObservationStore


def clean(
    vm: Annotated[str, typer.Argument(help="Name or UUID of the VM.")],
    source: options.From,
    json: options.Json = False,
) -> None:
    """Remove what a lost Drover left in a running VM: bitmaps, exports, histograms. Its VDISKs are not touched."""
    domain = find_domain(open_uri(source), vm)
    for migration in MigrationStore().all(include_ended=False):
        if migration.facts.uuid == domain.UUIDString():
            raise InputError(
                f"{vm} is migrating as {migration.id} ({migration.state})", remedy=f"use `drover cancel {migration.id}`"
            )
    if domain.isActive():
        vdisks = [vdisk.name for vdisk in describe(domain).vdisks if vdisk.replicable]
        Capture(domain, vdisks, "").stop()
        LatencyHistograms(domain, vdisks).stop()
        with ObservationStore().observing(domain.UUIDString()):
            remove_bitmaps(domain)
    if json:
        print_json({"event": "cleaned", "vm": domain.name()})
    else:
        Console().print(f"{domain.name()} has nothing of Drover's in it.")
