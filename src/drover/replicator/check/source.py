"""Checks at the source: the VM, its VDISKs, and whether its QEMU can capture writes."""

import xml.etree.ElementTree as ET

import libvirt

from drover.model.units import format_size
from drover.model.vm import Vm
from drover.platforms.libvirt.connection import qmp
from drover.platforms.libvirt.host import Host
from drover.platforms.libvirt.inventory import nodes
from drover.platforms.libvirt.profile import is_marked
from drover.replicator.check.report import Report

_COMMANDS = {"transaction", "block-dirty-bitmap-merge", "block-export-add", "nbd-server-start"}


def check(report: Report, domain: libvirt.virDomain, vm: Vm, host: Host) -> None:
    with report.looking_at("VM"):
        _power(report, domain, vm)
    with report.looking_at("devices"):
        _devices(report, domain, vm)
    for vdisk in vm.vdisks:
        if vdisk.replicable:
            report.good(f"VDISK {vdisk.name}", f"{format_size(vdisk.size)} {vdisk.format} in {vdisk.path}")
        else:
            report.bad(
                f"VDISK {vdisk.name}",
                f"it cannot be replicated: {vdisk.obstacle}",
                "detach it, or move its content by other means",
            )
    if not vm.vdisks:
        report.bad("VDISKs", f"{vm.name} has no VDISK to replicate", "a VM without disks needs no migration")
    if vm.running and report.passed:
        with report.looking_at("capture"):
            _capture(report, domain, vm)
    with report.looking_at("source host"):
        tools = [] if vm.running else [f"qemu-nbd ({vdisk.format})" for vdisk in vm.vdisks if vdisk.format != "raw"]
        if tools and host.run("sh", "-c", "command -v qemu-nbd", check=False).returncode != 0:
            report.bad("source host", f"it has no qemu-nbd to read {vm.name}", "install QEMU's utilities there")


def _power(report: Report, domain: libvirt.virDomain, vm: Vm) -> None:
    marked = is_marked(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    if marked is not None:
        report.bad(
            "VM",
            f"{vm.name} was migrated to {marked.get('destination')} by {marked.get('migration')} and only kept here",
            "migrate the one at its destination",
        )
    elif not domain.isPersistent():
        report.bad("VM", f"{vm.name} is transient: its profile would be lost when it stops", "define it first")
    elif domain.hasManagedSaveImage():
        report.bad(
            "VM", f"{vm.name} has a saved memory image", "start it, or drop the image with `virsh managedsave-remove`"
        )
    else:
        report.good(
            "VM", f"{vm.name} {'runs' if vm.running else 'is shut off; it will be shut off at the destination'}"
        )


def _devices(report: Report, domain: libvirt.virDomain, vm: Vm) -> None:
    profile = ET.fromstring(domain.XMLDesc(0))
    found = [f"a passed-through {device.get('type')} device" for device in profile.findall("devices/hostdev")]
    found += ["a shared folder"] * len(profile.findall("devices/filesystem"))
    found += ["a TPM with a state of its own"] * len(profile.findall("devices/tpm/backend[@type='emulator']"))
    if profile.find("os/nvram") is not None:
        found.append("UEFI variables in a file of its own")
    if found:
        report.bad("devices", f"{vm.name} has {', '.join(found)}, which cannot follow it", "detach it first")
    else:
        report.good("devices", "nothing is tied to this host")


def _capture(report: Report, domain: libvirt.virDomain, vm: Vm) -> None:
    known = {command["name"] for command in qmp(domain, "query-commands")}
    if missing := sorted(_COMMANDS - known):
        report.bad("capture", f"this QEMU has no {', '.join(missing)}", "QEMU 5.2 or later is needed at the source")
        return
    strays = [
        f"{node.vdisk}:{name}"
        for node in nodes(domain, [vdisk.name for vdisk in vm.vdisks])
        for name in node.bitmaps
        if name.startswith("drover-")
    ]
    exports = [export["id"] for export in qmp(domain, "query-block-exports")]
    if strays:
        report.bad(
            "capture",
            f"another Drover captures this VM already (bitmaps {', '.join(strays)})",
            "go on where that migration was started; if it is lost for good, `drover clean` removes what it left",
        )
    elif exports:
        report.bad(
            "capture",
            f"something else exports this VM's disks over NBD ({', '.join(exports)})",
            "let that backup or copy finish first",
        )
    else:
        report.good("capture", "QEMU can record writes in dirty bitmaps")
