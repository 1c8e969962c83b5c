"""Verifying a transport device: an engine without a role opens every frame on it, on the device's own host."""

import secrets
import time

from drover.devices.folder import DeviceFolder, Label
from drover.devices.reading import Observer, Reader
from drover.engine.client import EngineClient
from drover.engine.launcher import EngineHome
from drover.engine.status import DeviceStatus
from drover.errors import EngineError, HostError

_TICK = 0.5


def verify(folder: DeviceFolder, label: Label, key: bytes, observe: Observer) -> DeviceStatus:
    """Reads all of the device; what is damaged is in the answer. Leaves no engine behind.

    Raises HostError if the device cannot be read to its end, EngineError if the engine fails.
    """
    home = EngineHome(folder.host, f"verify-{label.id[:8]}-{secrets.token_hex(4)}", "device")
    try:
        engine = home.start()
        try:
            return _read(engine, folder, label, key, observe)
        finally:
            engine.close()
    finally:
        home.remove()


def _read(engine: EngineClient, folder: DeviceFolder, label: Label, key: bytes, observe: Observer) -> DeviceStatus:
    engine.put_device(label.id, path=folder.packs_path, key=key, purpose="verify")
    reader = Reader(label.label, None, observe)
    while True:
        status = engine.status().devices.get(label.id)
        if status is None:
            raise EngineError(f"the engine on {folder.host.name} stopped verifying the device {label.label}")
        reader.look(status)
        if status.state == "failed":
            raise HostError(
                f"the device {label.label} at {folder.path} on {folder.host.name} cannot be read to its end: "
                f"{status.error or 'no reason given'}",
                remedy="plug it in again, check its file system, and verify again",
            )
        if status.state != "running":
            return status
        time.sleep(_TICK)
