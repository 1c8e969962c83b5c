"""Dirty bitmaps that only watch: how much distinct a VM writes within windows of different lengths.

They are QEMU's, named `drover-observe-<observation>-<window seconds>`, so that whoever comes next knows whose they are
and can remove them; those of a migration (`drover-<n>`) are others.
"""

from collections.abc import Collection
from typing import Any

import libvirt

from drover.platforms.libvirt.capture import GRANULARITY
from drover.platforms.libvirt.connection import qmp
from drover.platforms.libvirt.inventory import nodes

_PREFIX = "drover-observe-"


class ObservationBitmaps:
    """Those of one running VM: one for each window on each VDISK. All methods raise PlatformError.

    `remove_bitmaps` ends them.
    """

    def __init__(
        self, domain: libvirt.virDomain, vdisks: list[str], observation: str, windows: Collection[float]
    ) -> None:
        self._domain = domain
        self._vdisks = vdisks
        self._names = {window: f"{_PREFIX}{observation}-{window:g}" for window in windows}

    def start(self) -> None:
        """All begin to record at the same moment."""
        options = {"granularity": GRANULARITY, "persistent": False}
        self._transaction("block-dirty-bitmap-add", self._names.values(), **options)

    def read(self) -> dict[str, dict[float, int]] | None:
        """Bytes that each holds, by VDISK and window. None: some are gone, since the VM was started anew, or a
        snapshot was taken or ended, and writes were missed."""
        present = nodes(self._domain, self._vdisks)
        if any(name not in node.dirty for node in present for name in self._names.values()):
            return None
        return {node.vdisk: {window: node.dirty[name] for window, name in self._names.items()} for node in present}

    def clear(self, windows: Collection[float]) -> None:
        """These begin at zero again."""
        self._transaction("block-dirty-bitmap-clear", [self._names[window] for window in windows])

    def _transaction(self, kind: str, names: Collection[str], **options: object) -> None:
        places = [{"node": node.node, "name": name} for node in nodes(self._domain, self._vdisks) for name in names]
        actions = [{"type": kind, "data": {**place, **options}} for place in places]
        qmp(self._domain, "transaction", actions=actions)


def remove_bitmaps(domain: libvirt.virDomain, observation: str | None = None) -> None:
    """Takes an observation's bitmaps, or those of all, out of a running VM. Repeatable. Raises PlatformError."""
    prefix = _PREFIX if observation is None else f"{_PREFIX}{observation}-"
    # A snapshot leaves them on a node below the one that the guest writes to now.
    found = [
        {"node": node["node-name"], "name": bitmap["name"]}
        for node in qmp(domain, "query-named-block-nodes", flat=True)
        for bitmap in _named(node)
        if bitmap["name"].startswith(prefix)
    ]
    if found:
        qmp(domain, "transaction", actions=[{"type": "block-dirty-bitmap-remove", "data": each} for each in found])


def _named(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [bitmap for bitmap in node.get("dirty-bitmaps", []) if "name" in bitmap]
