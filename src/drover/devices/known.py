"""Opening a transport device where it is plugged in, and remembering that it was seen there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drover.devices.folder import DeviceFolder, Label
from drover.devices.keys import Identity, check_recipient, new_key, own_identity, read_identity, seal, unwrap
from drover.errors import InputError
from drover.model.device import Device
from drover.platforms.libvirt.host import Host
from drover.store import DeviceStore

_LONGEST = 64


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A device and its key."""

    folder: DeviceFolder
    label: Label
    key: bytes

    def __repr__(self) -> str:
        return f"Opened({self.label.label})"


def open_device(host: Host, path: str, store: DeviceStore, identity: Path | None = None) -> Opened:
    """The device at `path`, opened with this Drover's identity or that in a file. Raises DroverError."""
    folder = DeviceFolder(host, path)
    label = folder.require()
    return Opened(folder=folder, label=label, key=open_key(folder, label, identity_of(store, identity)))


def open_key(folder: DeviceFolder, label: Label, identity: Identity) -> bytes:
    """The device's key. Raises DroverError."""
    return unwrap(folder.sealed_key(), identity, what=f"the transport device {label.label} ({label.id})")


def identity_of(store: DeviceStore, file: Path | None) -> Identity:
    """The identity in a file, or this Drover's own. Raises DroverError."""
    return own_identity(store.folder) if file is None else read_identity(file)


def make_device(
    host: Host, path: str, store: DeviceStore, *, site: str | None, label: str | None, recipients: Sequence[str]
) -> Device:
    """Makes the folder a device for this Drover and more recipients, and remembers it. Raises DroverError."""
    folder = DeviceFolder(host, path)
    name = label if label is not None else Path(folder.path).name
    if not (name.strip() and name.isprintable() and len(name) <= _LONGEST):
        raise InputError(
            f"{name!r} cannot be a label", remedy=f"give --label with 1 to {_LONGEST} characters that can be printed"
        )
    if any(device.label == name and not device.wiped for device in store.all()):
        raise InputError(f"there is a transport device {name!r} already", remedy="give another one with --label")
    own = own_identity(store.folder).recipient
    readers = list(dict.fromkeys([own, *map(check_recipient, recipients)]))
    made = folder.initialise(name, seal(new_key(), readers))
    store.save(Device(id=made.id, label=name, recipients=readers))
    store.saw(made.id, name, site=site, path=folder.path)
    return store.get(made.id)
