"""The manifest of a transport device: what a migration put on it, signed, sealed for the device's recipients.

What is on a device is authenticated piece by piece; only the manifest says how many pieces there must be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pyrage
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from drover.devices.folder import MANIFEST_LIMIT
from drover.devices.keys import Identity, seal
from drover.devices.signing import Signer, is_signed
from drover.engine.status import CHUNK, EngineStatus, Load
from drover.errors import InputError
from drover.model.migration import Migration
from drover.model.units import format_size

FORMAT = 1
_CONTEXT = b"drover 2026-11 device manifest\n"
"""Comes before what is signed, so that the signature is good for nothing else."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it cannot be printed")
    return text


_Text = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_printable)]
_Count = Annotated[int, Field(ge=0, lt=1 << 63, strict=True)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class VdiskPart(_Part):
    """How much of a VDISK is on the device."""

    name: _Text
    size: _Count
    """Bytes of the whole VDISK."""
    chunks: _Count
    """On this device."""


class Manifest(_Part):
    """What one migration put on one device."""

    format: _Count
    device: _Text
    migration: _Text
    vm: _Text
    created: _Text
    """UTC, as in 2026-11-02T10:00:00Z."""
    vdisks: tuple[VdiskPart, ...]


class _Envelope(_Part):
    """What is sealed. The manifest is a text in it, because a signature is over bytes."""

    manifest: str
    public_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A manifest whose signature is right, and whose it is."""

    manifest: Manifest
    public_key: str


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Chunks of a VDISK that the manifest lists and the device does not have."""

    vdisk: str
    listed: int
    found: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one migration's manifest says of the device, against what was found on it."""

    migration: str
    signed: Signed | None = None
    broken: str | None = None
    """Why there is a manifest that says nothing."""
    missing: tuple[Missing, ...] = ()

    @property
    def complete(self) -> bool | None:
        """None if there is no manifest: the migration was not done with the device, or somebody deleted it."""
        if self.signed is None:
            return None if self.broken is None else False
        return not self.missing

    def as_json(self) -> dict[str, Any]:
        signed = self.signed
        return {
            "migration": self.migration,
            "vm": signed.manifest.vm if signed else None,
            "created": signed.manifest.created if signed else None,
            "public_key": signed.public_key if signed else None,
            "complete": self.complete,
            "broken": self.broken,
            "vdisks": [vdisk.model_dump() for vdisk in signed.manifest.vdisks] if signed else [],
            "missing": [vars(missing) for missing in self.missing],
        }


def manifest_of(migration: Migration, device: str, status: EngineStatus, *, created: str) -> Manifest:
    """What the migration has on a device, as its source's engine counts it."""
    parts = []
    for vdisk in migration.facts.vdisks:
        held = status.vdisks[vdisk.name].background.devices.get(device, 0)
        if held:
            parts.append(VdiskPart(name=vdisk.name, size=vdisk.size, chunks=-(-held // CHUNK)))
    return Manifest(
        format=FORMAT, device=device, migration=migration.id, vm=migration.spec.vm, created=created, vdisks=tuple(parts)
    )


def seal_manifest(manifest: Manifest, signer: Signer, recipients: Sequence[str]) -> bytes:
    """The manifest as it lies on the device. Raises InputError for what is no recipient."""
    text = manifest.model_dump_json()
    envelope = _Envelope(manifest=text, public_key=signer.public_key, signature=signer.sign(_CONTEXT + text.encode()))
    return seal(envelope.model_dump_json().encode(), recipients)


def open_manifest(sealed: bytes, identity: Identity, *, device: str, migration: str) -> Signed:
    """The manifest of a migration out of its file. Raises InputError with what is wrong with it."""
    if len(sealed) > MANIFEST_LIMIT:
        raise InputError(f"it is larger than {format_size(MANIFEST_LIMIT)}")
    try:
        envelope = _Envelope.model_validate_json(identity.open(sealed))
    except pyrage.DecryptError as error:
        raise InputError(f"{identity.recipient} cannot open it: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise InputError(f"it is none: {_first(error)}") from None
    signed = _CONTEXT + envelope.manifest.encode(errors="surrogatepass")
    if not is_signed(signed, public_key=envelope.public_key, signature=envelope.signature):
        raise InputError("its signature is wrong")
    try:
        manifest = Manifest.model_validate_json(envelope.manifest)
    except ValidationError as error:
        raise InputError(f"it is none: {_first(error)}") from None
    if manifest.format != FORMAT:
        raise InputError(f"it is of format {manifest.format}, this Drover reads format {FORMAT}")
    if (manifest.device, manifest.migration) != (device, migration):
        raise InputError(f"it is that of migration {manifest.migration} on the device {manifest.device}")
    return Signed(manifest=manifest, public_key=envelope.public_key)


def judge(sealed: Mapping[str, bytes], identity: Identity, loads: Sequence[Load], *, device: str) -> list[Verdict]:
    """Each migration's manifest against what a verification found; also migrations that have none.

    What was loaded twice, because it was rewritten or the device was pulled out, is there twice: more than is listed
    is no error.
    """
    found: dict[tuple[str, str], int] = {}
    for load in loads:
        found[load.migration, load.vdisk] = found.get((load.migration, load.vdisk), 0) + load.chunks
    verdicts = []
    for migration in sorted(sealed.keys() | {load.migration for load in loads}):
        if migration not in sealed:
            verdicts.append(Verdict(migration=migration))
            continue
        try:
            signed = open_manifest(sealed[migration], identity, device=device, migration=migration)
        except InputError as error:
            verdicts.append(Verdict(migration=migration, broken=error.message))
            continue
        missing = [
            Missing(vdisk=part.name, listed=part.chunks, found=found.get((migration, part.name), 0))
            for part in signed.manifest.vdisks
        ]
        lacks = tuple(part for part in missing if part.found < part.listed)
        verdicts.append(Verdict(migration=migration, signed=signed, missing=lacks))
    return verdicts


def _first(error: ValidationError) -> str:
    wrong = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, wrong['loc'])) or 'JSON'}: {wrong['msg']}"
