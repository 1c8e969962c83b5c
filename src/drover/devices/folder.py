"""The folder `drover` of a transport device on a host: made, read, wiped (docs/transport-device.md).

The device may hang on a remote host, so that all of it is done by small scripts there. They ask nothing of the file
system but names, reading, writing and renaming: FAT32 and exFAT will do.
"""

import json
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drover.errors import HostError, InputError
from drover.platforms.libvirt.host import Host, LocalHost, host_of

FORMAT = 1
_SLOW = 600.0
"""Seconds that a slow device may take to make what was written to it durable."""
_NOT_THERE = 44
_SMALL = 1 << 16
"""Bytes; label and key are far smaller."""
MANIFEST_LIMIT = 1 << 20
"""Bytes of the largest manifest; a VDISK takes some 60."""
_MANIFEST = re.compile(r"([A-Za-z0-9-]{1,64})\.age")


class Label(BaseModel):
    """What a device says of itself without a key: `device.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int
    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    label: str = Field(min_length=1, max_length=64)
    created: str
    """UTC, as in 2026-11-02T10:00:00Z."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """Of the file system that a device lies on, in bytes."""

    free: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Packs:
    """What lies in the folder of packs."""

    number: int
    bytes: int


def utc_now() -> str:
    """Now, as devices say it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def open_host(site: str | None) -> Host:
    """The host of a site, by its libvirt URI; None is the machine that Drover runs on. Raises InputError."""
    return LocalHost("this machine", None) if site is None else host_of(site)


class DeviceFolder:
    """A device at `path` of a host. Every method raises HostError if the host or the device fails."""

    def __init__(self, host: Host, path: str) -> None:
        """Raises InputError for a path that can be no device."""
        if not path.startswith("/"):
            raise InputError(
                f"{path!r} is not a full path on {host.name}", remedy="give the path of the folder from / on"
            )
        self.host = host
        self.path = path.rstrip("/")
        if not self.path:
            raise InputError(f"/ of {host.name} is no transport device", remedy="give the device's mount point")

    @property
    def packs_path(self) -> str:
        return f"{self.path}/drover/packs"

    def read(self) -> Label | None:
        """What the device says of itself; None if there is none. Raises InputError for what is not readable as one."""
        content = self._file("device.json")
        if content is None:
            return None
        where = f"{self.path}/drover/device.json on {self.host.name}"
        try:
            label = Label.model_validate_json(content)
        except ValidationError as error:
            wrong = error.errors()[0]
            raise InputError(
                f"{where} is damaged: {'.'.join(map(str, wrong['loc'])) or 'JSON'}: {wrong['msg']}",
                remedy="check the device's file system",
            ) from None
        if label.format != FORMAT:
            raise InputError(
                f"{where} is of format {label.format}, this Drover reads format {FORMAT}",
                remedy="use the Drover that made the device",
            )
        return label

    def require(self) -> Label:
        """What the device says of itself. Raises InputError if there is none."""
        label = self.read()
        if label is None:
            raise InputError(
                f"there is no transport device at {self.path} on {self.host.name}",
                remedy=f"plug it in and mount it there; `drover device init {self.path}` makes a new one",
            )
        return label

    def sealed_key(self) -> bytes:
        """The device's key as it is encrypted to its recipients. Raises InputError if it was wiped."""
        content = self._file("key.age")
        if content is None:
            raise InputError(
                f"the transport device at {self.path} on {self.host.name} has no key any more: it was wiped",
                remedy=f"`drover device wipe {self.path}`, then `drover device init {self.path}` makes a new one",
            )
        return content

    def initialise(self, label: str, sealed_key: bytes) -> Label:
        """Makes the folder a device. Raises InputError if it cannot be one, or is one already."""
        self._refuse_unless_fit()
        made = Label(
            format=FORMAT,
            id=secrets.token_hex(16),
            label=label,
            created=utc_now(),
        )
        self.host.run("mkdir", "-p", "--", self.packs_path)
        self._write("key.age", sealed_key)
        # Last: a folder with a device.json is a whole device.
        self._write("device.json", json.dumps(made.model_dump()).encode() + b"\n")
        return made

    def room(self) -> Room:
        """What its file system has."""
        words = self.host.run("stat", "-f", "-c", "%a %b %S", "--", self.path).stdout.split()
        free, total, unit = (int(word) for word in words)
        return Room(free=free * unit, total=total * unit)

    def on_root(self) -> bool:
        """Whether it lies on the host's root file system: a device that was not mounted looks like that."""
        words = self.host.run("stat", "-c", "%d", "--", "/", self.path).stdout.split()
        return words[0] == words[1]

    def packs(self) -> Packs:
        """How many packs there are, and how large."""
        sizes = [size for _, size in self._packs()]
        return Packs(number=len(sizes), bytes=sum(sizes))

    def write_manifest(self, migration: str, sealed: bytes) -> None:
        """Puts a migration's manifest there, instead of an older one at once."""
        self._write(f"manifests/{migration}.age", sealed)

    def manifests(self) -> dict[str, bytes]:
        """The manifests by migration, sealed; of a larger one than `MANIFEST_LIMIT` a byte more than that."""
        found = {}
        for name, _ in self._files("manifests"):
            match = _MANIFEST.fullmatch(name)
            content = None if match is None else self._file(f"manifests/{name}", limit=MANIFEST_LIMIT + 1)
            if match is not None and content is not None:
                found[match[1]] = content
        return found

    def sync(self) -> None:
        """Everything that was written to the device's file system is on it when this returns."""
        self.host.run("sync", "-f", "--", self.path, timeout=_SLOW)

    def wipe(self, *, overwrite: bool) -> Iterator[int]:
        """Destroys the key, then deletes the packs and all else that the format names, and nothing more.

        Yields the bytes of each pack that is gone. It can be repeated if it was interrupted: the label goes last.
        """
        self._destroy("key.age", overwrite=True)
        for name, size in self._packs():
            self._destroy(f"packs/{name}", overwrite=overwrite)
            yield size
        for name, _ in self._files("manifests"):
            if _MANIFEST.fullmatch(name.removesuffix(".part")):
                self._destroy(f"manifests/{name}", overwrite=True)
        self._destroy("device.json", overwrite=True)
        script = (
            'cd "$1/drover" || exit 0; rm -f -- device.json.part key.age.part; cd ..; '
            "rmdir drover/manifests; rmdir drover/packs drover"
        )
        self.host.run("sh", "-c", script, "drover-wipe", self.path, check=False)
        self.sync()

    def _packs(self) -> list[tuple[str, int]]:
        return [(name, size) for name, size in self._files("packs") if _is_pack(name)]

    def _files(self, name: str) -> list[tuple[str, int]]:
        """Names and bytes of the files in a folder of the device; no links, and not through one."""
        script = '[ -d "$1" ] && [ ! -L "$1" ] || exit 0; cd "$1" && find . -maxdepth 1 -type f -printf "%s %f\\n"'
        done = self.host.run("sh", "-c", script, "drover-files", f"{self.path}/drover/{name}")
        found = [line.partition(" ") for line in done.stdout.decode(errors="replace").split("\n")]
        return sorted((name, int(size)) for size, _, name in found if size.isdecimal())

    def _refuse_unless_fit(self) -> None:
        label = self.read()
        if label is not None:
            raise InputError(
                f"{self.path} on {self.host.name} is the transport device {label.label} ({label.id}) already",
                remedy=f"use it as it is, or `drover device wipe {self.path}` first",
            )
        script = (
            '[ -d "$1" ] || exit 2; [ -w "$1" ] || exit 3; [ -L "$1/drover" ] && exit 4; '
            '[ -d "$1/drover" ] || { [ -e "$1/drover" ] && exit 4; exit 0; }; '
            '[ -z "$(ls -A "$1/drover/packs" 2>/dev/null)" ] || exit 5'
        )
        done = self.host.run("sh", "-c", script, "drover-look", self.path, check=False)
        if done.returncode != 0:
            words, remedy = _UNFIT.get(done.returncode, ("cannot be looked at", "check the device's file system"))
            raise InputError(f"{self.path} on {self.host.name} {words}", remedy=remedy.format(path=self.path))

    def _file(self, name: str, *, limit: int = _SMALL) -> bytes | None:
        script = f'[ -e "$1" ] || exit {_NOT_THERE}; head -c {limit} -- "$1"'
        done = self.host.run("sh", "-c", script, "drover-read", f"{self.path}/drover/{name}", check=False)
        if done.returncode == _NOT_THERE:
            return None
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip()
            raise HostError(
                f"cannot read {name} of the transport device at {self.path} on {self.host.name}: {words}",
                remedy="it may have been pulled out: plug it in again",
            )
        return done.stdout

    def _write(self, name: str, content: bytes) -> None:
        path = f"{self.path}/drover/{name}"
        # No chmod: some file systems of sticks refuse it.
        script = (
            'umask 077; in=${1%/*}; [ ! -L "$in" ] || { echo "$in is a link" >&2; exit 1; }; '
            '[ -d "$in" ] || { mkdir -p -- "$in" && sync -- "$in/.."; } || exit 1; '
            'cat > "$1.part" && sync -- "$1.part" && mv -f -- "$1.part" "$1" && sync -- "$in"'
        )
        self.host.run("sh", "-c", script, "drover-write", path, stdin=content, timeout=_SLOW)

    def _destroy(self, name: str, *, overwrite: bool) -> None:
        """Files only, and not through a link. `shred` writes and syncs."""
        script = (
            '[ -L "$1/drover" ] && exit 1; f=$1/drover/$2; [ -f "$f" ] && [ ! -L "$f" ] || exit 0; '
            + ('if [ -s "$f" ]; then shred -n 1 -- "$f" || exit 1; fi; ' if overwrite else "")
            + 'rm -- "$f" && sync -- "$1/drover"'
        )
        self.host.run("sh", "-c", script, "drover-wipe", self.path, name, timeout=3600)


_UNFIT = {
    2: ("is not a folder", "mount the device there first, or name another folder"),
    3: ("cannot be written to", "mount it for writing, or check its write protection"),
    4: ("has something named drover in it that is no folder", "rename that, or name another folder"),
    5: ("has packs in it without a label", "`drover device wipe {path}` deletes them"),
}


def _is_pack(name: str) -> bool:
    stem, _, suffix = name.partition(".")
    return len(stem) >= 8 and stem.isascii() and stem.isdigit() and suffix == "pack"
