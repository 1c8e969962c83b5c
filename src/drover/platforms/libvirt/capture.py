"""Foreground capture at a libvirt site: dirty bitmaps in QEMU, sealed atomically over all VDISKs of a VM (DESIGN 4).

The bitmap that records now is `drover-<n>`. Sealing epoch n adds `drover-<n+1>` and disables `drover-<n>` in one QMP
transaction. A write lands in the bitmap when QEMU completes it: one that is under way while an epoch is sealed is
recorded in the next. So between seal and release nothing is ever in no bitmap.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt

from drover.errors import PlatformError
from drover.platforms.libvirt.connection import qmp
from drover.platforms.libvirt.host import Host
from drover.platforms.libvirt.inventory import Node, nodes

GRANULARITY = 64 * 1024
"""Bytes that one bit stands for: QEMU's own default cluster."""
_NAME = re.compile(r"^drover-(\d+)$")


def export_socket(host: Host, process: int) -> str:
    """Where the VM of this hypervisor process may serve NBD on its host; the folder changes with each start of it."""
    found = host.run("sh", "-c", f"ls -d /var/lib/libvirt/qemu/domain-{process}-*", check=False).stdout.decode()
    return f"{found.split(chr(10))[0] or '/var/lib/libvirt/qemu'}/drover.sock"


class Capture:
    """The writes of one running VM, captured for one migration. All methods raise PlatformError.

    Somebody else who only reads gives an `owner` and then ends no exports but his own.
    """

    def __init__(self, domain: libvirt.virDomain, vdisks: list[str], socket: str, *, owner: str = "") -> None:
        self._domain = domain
        self._vdisks = vdisks
        self._prefix = f"drover-{owner}-" if owner else "drover-"
        self.socket = socket
        """Unix socket on the VM's host at which QEMU exports the VDISKs over NBD."""

    def start(self, epoch: int) -> None:
        """Begins to record into `drover-<epoch>`, on all VDISKs at the same moment."""
        self._transaction([_add(node, epoch) for node in self._nodes()])

    def recover(self, epoch: int) -> bool:
        """Makes `drover-<epoch>` the only bitmap again, with everything in it that any of ours holds.

        False if a VDISK has none that records: the VM was power-cycled or a VDISK replaced, and writes were missed.
        """
        self._withdraw([name for name in self._exports() if "-epoch-" in name])
        present = self._nodes()
        if not all(node.bitmaps.get(f"drover-{epoch}") for node in present):
            self._remove([(node, name) for node in present for name in _ours(node)])
            return False
        for node in present:
            self._merge(node, [name for name in _ours(node) if name != f"drover-{epoch}"], f"drover-{epoch}")
        return True

    def recording(self) -> int | None:
        """Number of the bitmap that records on every VDISK, the newest if there are several; None if there is none."""
        common = set.intersection(*({name for name in _ours(node) if node.bitmaps[name]} for node in self._nodes()))
        return max((_number(name) for name in common), default=None)

    def seal(self, epoch: int) -> None:
        """Ends `drover-<epoch>` and begins `drover-<epoch + 1>` on all VDISKs atomically."""
        present = self._nodes()
        actions = [_add(node, epoch + 1) for node in present]
        actions += [_action("block-dirty-bitmap-disable", node, f"drover-{epoch}") for node in present]
        self._transaction(actions)

    def release(self, epoch: int) -> None:
        """Drops the sealed `drover-<epoch>`: the destination has acknowledged it as stored."""
        self.withdraw_epoch(epoch)
        self._remove([(node, f"drover-{epoch}") for node in self._nodes() if f"drover-{epoch}" in node.bitmaps])

    def forget(self, epoch: int) -> None:
        """Merges the sealed `drover-<epoch>` back into the one that records: nothing is forgotten."""
        self.withdraw_epoch(epoch)
        for node in self._nodes():
            if f"drover-{epoch}" in node.bitmaps:
                self._merge(node, [f"drover-{epoch}"], f"drover-{epoch + 1}")

    def dirty(self, epoch: int) -> dict[str, int]:
        """Bytes that `drover-<epoch>` holds now, by VDISK."""
        return {node.vdisk: node.dirty.get(f"drover-{epoch}", 0) for node in self._nodes()}

    def raw(self) -> dict[str, str]:
        """Path on the VM's host of the file or block device behind each VDISK that is raw."""
        return {node.vdisk: node.raw for node in self._nodes() if node.raw is not None}

    def export(self, vdisk: str) -> str:
        """Offers the live VDISK over NBD; the export's name. Repeating it is harmless."""
        self._serve()
        name = f"{self._prefix}{vdisk}"
        if name not in self._exports():
            self._export(name, next(node.node for node in self._nodes() if node.vdisk == vdisk), [])
        return name

    def export_epoch(self, epoch: int) -> dict[str, str]:
        """Offers the VDISKs with the sealed `drover-<epoch>` as meta context; the export's name by VDISK."""
        self._serve()
        result = {}
        for node in self._nodes():
            name = f"{self._prefix}{node.vdisk}-epoch-{epoch}"
            self._export(name, node.node, [f"drover-{epoch}"])
            result[node.vdisk] = name
        return result

    def withdraw_epoch(self, epoch: int) -> None:
        """Ends the exports of an epoch; engines that still read them are cut off."""
        self._withdraw([name for name in self._exports() if name.endswith(f"-epoch-{epoch}")])

    def withdraw_all(self) -> None:
        """Ends every export of ours."""
        self._withdraw(self._exports())

    def close(self) -> None:
        """Ends every export of ours, and the NBD server unless somebody else uses it."""
        self.withdraw_all()
        if not qmp(self._domain, "query-block-exports"):
            with _unless("not running"):
                qmp(self._domain, "nbd-server-stop")

    def stop(self) -> None:
        """Leaves QEMU as it was: no export, no NBD server, no bitmap of ours."""
        self.close()
        self._remove([(node, name) for node in self._nodes() for name in _ours(node)])

    def _nodes(self) -> list[Node]:
        return nodes(self._domain, self._vdisks)

    def _transaction(self, actions: list[dict[str, Any]]) -> None:
        qmp(self._domain, "transaction", actions=actions)

    def _remove(self, bitmaps: list[tuple[Node, str]]) -> None:
        if bitmaps:
            self._transaction([_action("block-dirty-bitmap-remove", node, name) for node, name in bitmaps])

    def _merge(self, node: Node, names: list[str], target: str) -> None:
        if not names:
            return
        merge = {"node": node.node, "target": target, "bitmaps": names}
        removals = [_action("block-dirty-bitmap-remove", node, name) for name in names]
        self._transaction([{"type": "block-dirty-bitmap-merge", "data": merge}, *removals])

    def _serve(self) -> None:
        address = {"type": "unix", "data": {"path": self.socket}}
        with _unless("already running"):
            qmp(self._domain, "nbd-server-start", addr=address, **{"max-connections": 0})

    def _exports(self) -> list[str]:
        ids = [str(export["id"]) for export in qmp(self._domain, "query-block-exports")]
        return [name for name in ids if name.startswith(self._prefix)]

    def _export(self, name: str, node: str, bitmaps: list[str]) -> None:
        options = {"type": "nbd", "id": name, "name": name, "node-name": node, "writable": False, "bitmaps": bitmaps}
        qmp(self._domain, "block-export-add", **options)

    def _withdraw(self, names: list[str]) -> None:
        for name in names:
            qmp(self._domain, "block-export-del", id=name, mode="hard")
        deadline = time.monotonic() + 10
        while set(names) & set(self._exports()):
            if time.monotonic() > deadline:
                raise PlatformError(f"QEMU of {self._domain.name()} does not end its exports {', '.join(names)}")
            time.sleep(0.01)


@contextmanager
def _unless(words: str) -> Iterator[None]:
    """Lets QEMU's refusal pass if it says these words: what was wanted is so already."""
    try:
        yield
    except PlatformError as error:
        if words not in str(error):
            raise


def _ours(node: Node) -> list[str]:
    return [name for name in node.bitmaps if _NAME.match(name)]


def _number(name: str) -> int:
    match = _NAME.match(name)
    assert match is not None
    return int(match.group(1))


def _add(node: Node, epoch: int) -> dict[str, Any]:
    data = {"node": node.node, "name": f"drover-{epoch}", "granularity": GRANULARITY, "persistent": False}
    return {"type": "block-dirty-bitmap-add", "data": data}


def _action(kind: str, node: Node, name: str) -> dict[str, Any]:
    return {"type": kind, "data": {"node": node.node, "name": name}}
