"""A manifest says what must be on a device, and whose word that is; anything else in its place is named."""

import json
import stat
from pathlib import Path
from typing import Any

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from drover.devices.folder import MANIFEST_LIMIT
from drover.devices.keys import Identity, own_identity, seal
from drover.devices.manifest import Manifest, VdiskPart, judge, manifest_of, open_manifest, seal_manifest
from drover.devices.signing import Signer, own_signer
from drover.engine.status import EngineStatus, Load
from drover.errors import DroverError, InputError
from drover.model.migration import Facts, Migration, ReplicaVdisk, Spec

DEVICE, MIGRATION = "ab" * 16, "m-0011aabb"
SIGNER = Signer(Ed25519PrivateKey.generate())
READER = Identity(str(pyrage.x25519.Identity.generate()))


def manifest(**other: Any) -> Manifest:
    parts = (VdiskPart(name="vda", size=3 << 20, chunks=6), VdiskPart(name="vdb", size=1, chunks=1))
    fields = {"format": 1, "device": DEVICE, "migration": MIGRATION, "vm": "web", "created": "now", "vdisks": parts}
    return Manifest.model_validate({**fields, **other})


def sealed(**other: Any) -> bytes:
    return seal_manifest(manifest(**other), SIGNER, [READER.recipient])


def why(content: bytes) -> str:
    """What is wrong with it."""
    with pytest.raises(InputError) as refused:
        open_manifest(content, READER, device=DEVICE, migration=MIGRATION)
    assert refused.value.message.isprintable()
    return refused.value.message


def load(vdisk: str, chunks: int, migration: str = MIGRATION) -> Load:
    return Load(load="00" * 16, migration=migration, vdisk=vdisk, size=1, chunks=chunks)


@given(st.text().filter(lambda text: len(text) > 0 and text.isprintable()), st.integers(0, (1 << 63) - 1))
def test_a_manifest_comes_back_as_it_was_and_says_who_signed_it(name: str, chunks: int) -> None:
    parts = (VdiskPart(name=name[:99], size=chunks, chunks=chunks),)
    signed = open_manifest(sealed(vm=name[:99], vdisks=parts), READER, device=DEVICE, migration=MIGRATION)
    assert signed.manifest == manifest(vm=name[:99], vdisks=parts)
    assert signed.public_key == SIGNER.public_key


def test_a_manifest_counts_what_the_engine_says_is_on_the_device() -> None:
    names = ("vda", "vdb", "vdc")
    vdisks = [
        ReplicaVdisk(name=name, size=9 << 20, source_path="/x", source_format="raw", pool="p", volume="v", format="raw")
        for name in names
    ]
    spec = Spec(vm="web", source="a:///", destination="b:///")
    migration = Migration(id=MIGRATION, spec=spec, facts=Facts(vdisks=vdisks))
    held = {"vda": {DEVICE: 3 << 20}, "vdb": {DEVICE: 1}, "vdc": {"cd" * 16: 1 << 20}}
    status = EngineStatus.model_validate(
        {
            "link": {"state": "up"},
            "vdisks": {n: {"size": 9 << 20, "state": "x", "background": {"devices": held[n]}} for n in names},
        }
    )
    made = manifest_of(migration, DEVICE, status, created="now")
    assert [(part.name, part.chunks) for part in made.vdisks] == [("vda", 6), ("vdb", 1)]


@given(st.binary(max_size=2000))
def test_any_bytes_are_no_manifest(content: bytes) -> None:
    assert why(content)
    assert why(seal(content, [READER.recipient]))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_other_json_is_no_manifest(value: Any) -> None:
    text = json.dumps({"manifest": value, "public_key": value, "signature": value})
    assert "it is none" in why(seal(text.encode(), [READER.recipient]))


@given(
    st.sampled_from(sorted(Manifest.model_fields)), st.none() | st.booleans() | st.floats(allow_nan=False) | st.text()
)
def test_signed_nonsense_is_named_all_the_same(field: str, value: Any) -> None:
    text = json.dumps({**manifest().model_dump(mode="json"), field: value})
    signature = SIGNER.sign(b"drover 2026-11 device manifest\n" + text.encode())
    envelope = {"manifest": text, "public_key": SIGNER.public_key, "signature": signature}
    content = seal(json.dumps(envelope).encode(), [READER.recipient])
    if field in ("vm", "created") and isinstance(value, str) and value and value.isprintable():
        open_manifest(content, READER, device=DEVICE, migration=MIGRATION)
    else:
        assert why(content)


SEALED = sealed()


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_a_flipped_bit_anywhere_is_noticed(at: int, flip: int) -> None:
    damaged = bytearray(SEALED)
    damaged[at] ^= flip
    assert why(bytes(damaged))


@given(st.integers(0, len(SEALED) - 1))
def test_a_manifest_that_was_cut_is_noticed(length: int) -> None:
    assert why(SEALED[:length])


def test_what_is_huge_deep_or_not_for_us_is_named(tmp_path: Path) -> None:
    assert "larger than" in why(SEALED + b"x" * MANIFEST_LIMIT)
    assert "it is none" in why(seal(b"[" * 200_000, [READER.recipient]))
    assert "cannot open it" in why(seal_manifest(manifest(), SIGNER, [own_identity(tmp_path).recipient]))


def test_a_manifest_of_something_else_is_named() -> None:
    assert "m-other" in why(sealed(migration="m-other"))
    assert "cd" * 16 in why(sealed(device="cd" * 16))
    assert "format 2" in why(sealed(format=2))


def test_what_somebody_else_signed_in_our_name_is_wrong() -> None:
    text = manifest().model_dump_json()
    stranger = Signer(Ed25519PrivateKey.generate())
    for signature in (stranger.sign(text.encode()), SIGNER.sign(text.encode()), "00" * 64):
        envelope = {"manifest": text, "public_key": SIGNER.public_key, "signature": signature}
        assert why(seal(json.dumps(envelope).encode(), [READER.recipient])) == "its signature is wrong"


def test_what_is_missing_is_named_and_more_is_no_error(tmp_path: Path) -> None:
    def verdict(*loads: Load, content: bytes = SEALED) -> Any:
        (one,) = judge({MIGRATION: content}, READER, loads, device=DEVICE)
        return one

    assert verdict(load("vda", 4), load("vda", 2), load("vdb", 9)).complete is True
    lacking = verdict(load("vda", 5), load("vdb", 1), load("vdb", 1))
    assert lacking.complete is False
    assert [vars(missing) for missing in lacking.missing] == [{"vdisk": "vda", "listed": 6, "found": 5}]
    assert [missing.found for missing in verdict().missing] == [0, 0]
    assert verdict(content=b"nonsense").complete is False
    assert json.dumps(verdict(content=b"nonsense").as_json()) and json.dumps(lacking.as_json())
    of_others = judge(
        {MIGRATION: SEALED}, READER, [load("vda", 6), load("vdb", 1), load("vda", 1, "m-2")], device=DEVICE
    )
    assert [(one.migration, one.complete) for one in of_others] == [(MIGRATION, True), ("m-2", None)]
    assert judge({}, own_identity(tmp_path), [], device=DEVICE) == []


def test_the_signing_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    assert own_signer(tmp_path).public_key == own_signer(tmp_path).public_key
    assert stat.S_IMODE((tmp_path / "signing.key").stat().st_mode) == 0o600
    for damaged in (b"", b"\xff", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        (tmp_path / "signing.key").write_bytes(damaged)
        with pytest.raises(InputError, match=r"signing\.key is damaged"):
            own_signer(tmp_path)
    with pytest.raises(DroverError, match=r"signing\.key"):
        own_signer(tmp_path / "gone")
