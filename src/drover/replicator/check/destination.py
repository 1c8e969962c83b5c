"""Checks at the destination: do networks map, do pools have room, can it run this machine."""

import xml.etree.ElementTree as ET

import libvirt

from drover.model.migration import ReplicaVdisk, Spec
from drover.model.units import format_size
from drover.model.vm import Vdisk, Vm
from drover.platforms.libvirt.connection import doing
from drover.platforms.libvirt.profile import networks_in
from drover.platforms.libvirt.storage import Pool, find_pool, pool_names, volume_path
from drover.replicator.check.report import PoolRoom, Report

_FORMATS = ("raw", "qcow2")


def check(report: Report, connection: libvirt.virConnect, vm: Vm, domain: libvirt.virDomain, spec: Spec) -> None:
    _machine(report, connection, vm)
    _processor(report, connection, domain)
    _networks(report, connection, domain, spec)
    unknown = sorted((set(spec.pools) | set(spec.formats)) - {"", *(vdisk.name for vdisk in vm.vdisks)})
    if unknown:
        report.bad(
            "pools",
            f"{vm.name} has no VDISK {', '.join(unknown)}",
            f"its VDISKs are {', '.join(vdisk.name for vdisk in vm.vdisks)}",
        )
        return
    with report.looking_at("pools"):
        _storage(report, connection, vm, spec)


def _machine(report: Report, connection: libvirt.virConnect, vm: Vm) -> None:
    what = f"{vm.virtualisation} machine {vm.machine} ({vm.arch})"
    try:
        connection.getDomainCapabilities(None, vm.arch, vm.machine, vm.virtualisation)
    except libvirt.libvirtError as error:
        report.bad("machine type", f"the destination cannot run a {what}: {error.get_error_message()}", _UPGRADE)
    else:
        report.good("machine type", f"the destination runs a {what}")


_UPGRADE = "install a QEMU there that is at least as new as the source's"


def _processor(report: Report, connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
    profile = ET.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE))
    cpu = profile.find("cpu")
    machine = profile.find("os/type")
    if cpu is None or machine is None or profile.get("type") != "kvm":
        report.good("CPU model", "emulated or the default one, the same everywhere")
        return
    with doing("comparing the CPU models"):
        verdict = connection.compareHypervisorCPU(
            None, machine.get("arch"), machine.get("machine"), "kvm", ET.tostring(cpu, encoding="unicode")
        )
    if verdict == libvirt.VIR_CPU_COMPARE_INCOMPATIBLE:
        report.bad(
            "CPU model",
            "the destination's processors lack features that the VM sees now",
            "give the VM a CPU model that both sites have",
        )
    else:
        report.good("CPU model", "the destination's processors have what the VM sees now")


def _networks(report: Report, connection: libvirt.virConnect, domain: libvirt.virDomain, spec: Spec) -> None:
    there = sorted(network.name() for network in connection.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE))
    used = networks_in(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    choice = f"the destination has {', '.join(there) or 'no active network'}"
    for name in used:
        target = spec.networks.get(name, name)
        if target in there:
            report.good(f"network {name}", f"becomes {target}")
        else:
            example = there[0] if there else "NAME"
            report.bad(
                f"network {name}",
                f"the destination has no active network {target!r}",
                f"map it, as in --network {name}={example}; {choice}",
            )
    for name in sorted(set(spec.networks) - set(used)):
        report.bad(
            f"network {name}", "the VM is not plugged into it", f"it is plugged into {', '.join(used) or 'none'}"
        )


def _storage(report: Report, connection: libvirt.virConnect, vm: Vm, spec: Spec) -> None:
    pools: dict[str, Pool] = {}
    needed: dict[str, int] = {}
    for vdisk in vm.vdisks:
        name = spec.pools.get(vdisk.name) or spec.pools.get("")
        if name is None:
            there = pool_names(connection)
            if len(there) != 1:
                report.bad(
                    "pools", f"no pool was named for {vdisk.name}", f"add --pool NAME; there are {', '.join(there)}"
                )
                return
            name = there[0]
        pool = pools.setdefault(name, find_pool(connection, name))
        needed[name] = needed.get(name, 0) + vdisk.allocated
        replica = _replica(report, connection, vm, vdisk, pool, spec)
        if replica is not None:
            report.vdisks.append(replica)
    for name, pool in pools.items():
        report.pools[name] = PoolRoom(needed=needed[name], free=pool.available)
        if pool.available < needed[name]:
            report.bad(
                f"pool {name}",
                f"it has {format_size(pool.available)} left, and the VM's VDISKs take {format_size(needed[name])} now",
                "make room there, or spread the VDISKs, as in --pool vda=big --pool vdb=other",
            )
        else:
            report.good(f"pool {name}", f"{format_size(pool.available)} left for {format_size(needed[name])}")


def _replica(
    report: Report, connection: libvirt.virConnect, vm: Vm, vdisk: Vdisk, pool: Pool, spec: Spec
) -> ReplicaVdisk | None:
    wanted = spec.formats.get(vdisk.name) or spec.formats.get("") or pool.format or vdisk.format
    if wanted not in _FORMATS or (wanted != "raw" and not pool.holds_files):
        report.bad(
            f"pool {pool.name}",
            f"it cannot hold {vdisk.name} as {wanted}",
            f"choose another with --format {vdisk.name}=raw" + (" or =qcow2" if pool.holds_files else ""),
        )
        return None
    named = f"{spec.profile.named(vm.name)}-{vdisk.name}"
    volume = f"{named}.{wanted}" if pool.holds_files else named
    if (path := volume_path(connection, pool.name, volume)) is not None:
        report.bad(
            f"pool {pool.name}",
            f"it already has a volume {volume} ({path})",
            "Drover never overwrites one: delete or rename it if it is not needed",
        )
        return None
    return ReplicaVdisk(
        name=vdisk.name,
        size=vdisk.size,
        source_path=vdisk.path,
        source_format=vdisk.format,
        pool=pool.name,
        volume=volume,
        format=wanted,
    )
