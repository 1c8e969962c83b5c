"""A real libvirtd and QEMU: the inventory follows within a second or two, and libvirtd is listed once a connection."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from drover.inventory import Keepers
from drover.lab import Lab
from drover.model.inventory import ListedVm, Power
from drover.platforms.libvirt.watching import LibvirtWatched
from drover.store import InventoryStore, SiteStore
from drover.store.inventory import KeptVm, Wanted
from drover.store.sites import Site

# It stands still at its first instruction: no guest is needed.
_PROFILE = """
<domain type='qemu'><name>calf</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64'>hvm</type></os><features><acpi/></features><devices>
<disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file={disk}/><target dev='vda' bus='virtio'/></disk></devices></domain>
"""
_SECOND_DISK = """
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file={disk}/>
<target dev='vdb' bus='virtio'/></disk>
"""


class Counted(LibvirtWatched):
    lists = 0

    def everything(self) -> list[ListedVm]:
        type(self).lists += 1
        return super().everything()


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> Iterator[InventoryStore]:
    lab = Lab(folder)
    lab.up()
    SiteStore(tmp_path).put(Site(name="alpha", uri=lab.site("alpha").uri))
    keepers = Keepers(tmp_path, Counted)
    keepers.start()
    yield InventoryStore(tmp_path)
    keepers.stop()


def test_it_follows_a_real_hypervisor(store: InventoryStore, folder: Path) -> None:
    def calf() -> KeptVm | None:
        return next(iter(store.page(Wanted(name="calf"), limit=1)), None)

    def soon(check: Callable[[], object]) -> None:
        deadline = time.monotonic() + 5
        while not check():
            assert time.monotonic() < deadline, (calf(), store.sites())
            time.sleep(0.02)

    def is_now(state: Power, vdisks: int) -> Callable[[], object]:
        return lambda: (kept := calf()) is not None and (kept.vm.state, len(kept.vm.vdisks)) == (state, vdisks)

    site = Lab(folder).site("alpha")
    disks = [folder / "alpha" / f"calf-{number}.raw" for number in range(2)]
    for disk in disks:
        disk.touch()
        disk.open("r+b").truncate(8 << 20)
    soon(lambda: store.sites().get("alpha") and store.sites()["alpha"].synced_at)
    with site.connection() as connection:
        domain = connection.defineXML(_PROFILE.format(disk=quoteattr(str(disks[0]))))
        soon(is_now(Power.OFF, 1))
        domain.createWithFlags(1)
        soon(is_now(Power.PAUSED, 1))
        domain.attachDevice(_SECOND_DISK.format(disk=quoteattr(str(disks[1]))))
        soon(is_now(Power.PAUSED, 2))
        assert (kept := calf()) is not None and kept.vm.size == 16 << 20 and kept.vm.host == "alpha"
        domain.destroy()
        soon(is_now(Power.OFF, 1))
        assert Counted.lists == 1
        domain.undefine()
        soon(lambda: calf() is None)
        assert Counted.lists == 1
