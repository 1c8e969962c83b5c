"""What `drover lab status` says, as plain data for programs and as tables for people."""

from typing import Any

import libvirt
from rich.table import Table

from drover.errors import DroverError
from drover.lab.lab import Lab
from drover.lab.site import Site
from drover.model.units import format_size


def describe(lab: Lab) -> dict[str, Any]:
    """The whole lab as it is now, as JSON types; sizes in bytes."""
    return {
        "folder": str(lab.folder),
        "sites": [_describe_site(site) for site in lab.sites],
        "link": lab.link.describe(),
    }


def tables(described: dict[str, Any]) -> list[Table | str]:
    """The description for people."""
    sites = Table("site", "state", "URI and pools", "network", "address", title=f"lab in {described['folder']}")
    # Folded rather than cut off: a URI is there to be copied.
    sites.columns[2].overflow = "fold"
    vms = Table("VM", "site", "state", "last word of its witness")
    for site in described["sites"]:
        pools = ", ".join(f"{p['name']} ({format_size(p['available'])} free)" for p in site["pools"])
        networks = "\n".join(network["name"] for network in site["networks"])
        sites.add_row(site["name"], site["state"], f"{site['uri']}\n{pools}", networks, site["address"])
        for vm in site["vms"]:
            vms.add_row(vm["name"], site["name"], vm["state"], vm["witness"] or "")
    shown: list[Table | str] = [sites]
    if vms.row_count:
        shown.append(vms)
    shown.append(f"link: {described['link']['sentence']}")
    return shown


def _describe_site(site: Site) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": site.name,
        "uri": site.uri,
        "address": site.address,
        "folder": str(site.folder),
        "state": "down",
        "pid": site.namespace.keeper(),
        "libvirtd_pid": site.libvirtd_pid,
        "pools": [],
        "networks": [],
        "vms": [],
    }
    try:
        with site.connection() as connection:
            described["pools"] = [
                _describe_pool(pool)
                for pool in sorted(connection.listAllStoragePools(), key=lambda pool: str(pool.name()))
            ]
            described["networks"] = [
                {"name": network.name(), "active": bool(network.isActive())} for network in connection.listAllNetworks()
            ]
        described["vms"] = [vars(vm) for vm in site.vms()]
        described["state"] = "up"
    except DroverError:
        # What does not answer is shown as it is: down, or half of it there.
        if described["pid"] is not None or described["libvirtd_pid"] is not None:
            described["state"] = "broken"
    return described


def _describe_pool(pool: Any) -> dict[str, Any]:
    state, capacity, _allocation, available = pool.info()
    active = state == libvirt.VIR_STORAGE_POOL_RUNNING
    return {"name": pool.name(), "active": active, "capacity": capacity, "available": available}
