"""Recovers a VDISK from transport devices with nothing but what docs/transport-device.md says: no engine, no Drover.

    pip install blake3 cryptography lz4 zstandard
    age -d -i identity.age-key DEVICE_FOLDER/drover/key.age | xxd -p -c 32
    python docs/recover.py --key HEX64 --vdisk NAME [--load HEX32] OUT DEVICE_FOLDER…

The second line writes a device's key as hex; `identity.age-key` lies in the data folder of the Drover that made the
device, or is that of a `--recipient`. Each device has a key of its own: name one `--key` for each folder, in the same
order. DEVICE_FOLDER is the folder that has `drover` in it. Loads are printed, to be named by `--load`; without it all
of the VDISK are taken. Of two copies of a chunk the later one on a device, and that of the later folder, wins; chunks
whose copies differ are listed, since which of them counts only the source knew.

OUT is made, sparse, and must not exist. What no device has stays a hole, as do the source's own holes, which went over
the network. So did all that the VM wrote after a chunk was read: this is no state that a running VM was ever in.
Ends with status 1 if anything was damaged, 2 if there is nothing to recover.
"""

import argparse
import itertools
import json
import re
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import lz4.block  # type: ignore[import-untyped]
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

GRID = 512
FIRST_FRAME = 2 * GRID
MOST = (4 << 20) + (4 << 10)
VDISK, BLOCK, PLACE, ZEROS, END = range(1, 6)
HEADER = struct.Struct("<8sII16s32sQ")
HEAD = struct.Struct("<4sIQ16s")
INDEXED = struct.Struct("<QIBIII")
FIELDS = {BLOCK: struct.Struct("<BII32sIB"), PLACE: struct.Struct("<BII32sIQ"), ZEROS: struct.Struct("<BIII")}


class DamageError(Exception):
    """Something is not there or does not open; the words say what."""


class Subject(NamedTuple):
    """What a pack says of a VDISK. Sizes are bytes."""

    load: str
    migration: str
    vdisk: str
    size: int
    chunk_size: int


class Pack:
    """A pack. Making one raises DamageError if no header of it is left, or it has the number of another."""

    def __init__(self, path: Path, number: int, key: bytes) -> None:
        self.path, self.number, self.length = path, number, path.stat().st_size
        headers = [self._header(offset) for offset in (0, GRID, self.length - GRID)]
        _, version, found, device, salt, _ = next(filter(None, headers), (b"", 0, 0, b"", b"", 0))
        if (version, found) != (1, number):
            raise DamageError("it has no header, another format, or the name of another")
        material = key + device + struct.pack("<I", number) + salt
        self._frames = AESGCM(blake3(material, derive_key_context="drover 2026-11 device pack: frames").digest())
        self._heads = blake3(material, derive_key_context="drover 2026-11 device pack: heads").digest()
        magic, _, _, _, _, end = headers[2] or (b"", 0, 0, b"", b"", 0)
        self._end = end if magic == b"DROVTAIL" else None

    def _header(self, offset: int) -> tuple[bytes, int, int, bytes, bytes, int] | None:
        try:
            raw = self._read(offset, GRID)
        except DamageError:
            return None
        is_whole = raw[:8] in (b"DROVPACK", b"DROVTAIL") and raw[72:88] == blake3(raw[:72]).digest(16)
        return HEADER.unpack_from(raw) if is_whole else None

    def _read(self, offset: int, count: int) -> bytes:
        if offset < 0 or offset + count > self.length:
            raise DamageError("the pack is cut short here")
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(offset)
                return file.read(count)
        except OSError as error:
            raise DamageError(f"it cannot be read: {error.strerror}") from None

    def _head(self, offset: int) -> bytes:
        raw = self._read(offset, HEAD.size)
        magic, length, _, check = HEAD.unpack(raw)
        right = blake3(raw[:16] + struct.pack("<Q", offset), key=self._heads).digest(16)
        if magic != b"DRVF" or not 16 < length <= MOST or check != right:
            raise DamageError("there is no head of a frame")
        return raw

    def entry(self, offset: int) -> bytes:
        """What the frame at `offset` holds. Raises DamageError."""
        head = self._head(offset)
        _, length, sequence, _ = HEAD.unpack(head)
        try:
            return self._frames.decrypt(struct.pack("<QI", sequence, 0), self._read(offset + HEAD.size, length), head)
        except InvalidTag:
            raise DamageError("its content is damaged") from None

    def frames(self) -> dict[int, str]:
        """Where frames are, and what the index says of each; without an index nothing, and where gaps begin as well."""
        try:
            end = self.entry(self._end) if self._end is not None else b""
        except DamageError:
            end = b""
        if end[:1] == bytes([END]):
            rows = list(INDEXED.iter_unpack(end[5:]))
            return {row[0]: "" if row[2] == VDISK else f"chunk {row[4]} of VDISK number {row[3]}" for row in rows}
        found, offset, in_gap = dict[int, str](), FIRST_FRAME, False
        while offset < self.length - (GRID if self._end is not None else 0):
            span, was_in_gap = GRID, in_gap
            try:
                length = HEAD.unpack(self._head(offset))[1]
                span, in_gap = -(-(HEAD.size + length) // GRID) * GRID, False
            except DamageError:
                in_gap = True
            if not (in_gap and was_in_gap):
                found[offset] = ""
            offset += span
        return found


class Device:
    """The packs of a device, and their VDISKs. Damage is printed and counted."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self.folder, self.damaged, self.packs = folder, 0, dict[int, Pack]()
        names = [path.name for path in (folder / "drover/packs").iterdir()]
        numbers = sorted(int(name[:-5]) for name in names if re.fullmatch("[0-9]{8,}[.]pack", name))
        for before, number in itertools.pairwise([-1, *numbers]):
            if number > before + 1:
                self._tell(f"packs {before + 1} to {number - 1}", "missing")
            path = folder / f"drover/packs/{number:08}.pack"
            try:
                self.packs[number] = Pack(path, number, key)
            except DamageError as damage:
                self._tell(path.name, str(damage))
        self.frames = {number: pack.frames() for number, pack in self.packs.items()}
        # First of all: of two descriptions of a VDISK the one before its blocks may be the damaged one.
        self.subjects = {number: dict(self._described(pack)) for number, pack in self.packs.items()}

    def _tell(self, what: str, why: str) -> None:
        self.damaged += 1
        print(f"damaged: {self.folder} {what}: {why}")

    def _described(self, pack: Pack) -> Iterator[tuple[int, Subject]]:
        for offset, indexed in self.frames[pack.number].items():
            try:
                entry = b"" if indexed else pack.entry(offset)
            except DamageError:
                continue
            if entry[:1] == bytes([VDISK]):
                said = json.loads(entry[5:])
                yield int.from_bytes(entry[1:5], "little"), Subject(*(said[name] for name in Subject._fields))

    def chunks(self, loads: set[str]) -> Iterator[tuple[Subject, int, int, bytes | None]]:
        """(VDISK, first chunk, number of chunks, content) in the order of writing; None is zeros."""
        for number, pack in self.packs.items():
            for offset, what in self.frames[number].items():
                try:
                    entry = pack.entry(offset)
                    if entry[0] not in FIELDS:
                        continue
                    _, vdisk, first, *_ = FIELDS[entry[0]].unpack_from(entry)
                    what = f"chunk {first} of VDISK number {vdisk}"
                    subject = self.subjects[number].get(vdisk)
                    if subject is None:
                        raise DamageError("the pack does not say what that VDISK is")
                    if subject.load in loads:
                        yield self._content(subject, entry)
                except DamageError as damage:
                    self._tell(f"{pack.path.name} at {offset}, {what or 'it is not known what'}", str(damage))

    def _content(self, subject: Subject, entry: bytes) -> tuple[Subject, int, int, bytes | None]:
        _, _, first, *rest = FIELDS[entry[0]].unpack_from(entry)
        count = rest[0] if entry[0] == ZEROS else 1
        if (first + count - 1) * subject.chunk_size >= subject.size:
            raise DamageError("it reaches over the end of its VDISK")
        if entry[0] == ZEROS:
            return subject, first, count, None
        if entry[0] == PLACE:
            digest, number, offset = rest
            if number not in self.packs:
                raise DamageError(f"its block was in pack {number}, which cannot be read")
            entry = self.packs[number].entry(offset)
            if entry[0] != BLOCK or FIELDS[BLOCK].unpack_from(entry)[3] != digest:
                raise DamageError("it points to another block than it says")
        return subject, first, 1, raw_of(entry, min(subject.chunk_size, subject.size - first * subject.chunk_size))


def raw_of(entry: bytes, length: int) -> bytes:
    """The content of a Block, `length` bytes. Raises DamageError."""
    *_, digest, raw_length, compression = FIELDS[BLOCK].unpack_from(entry)
    payload = entry[FIELDS[BLOCK].size :]
    if raw_length != length or compression > 2:
        raise DamageError(f"it has {raw_length} bytes, compression {compression}, instead of {length} bytes")
    try:
        if compression == 1:
            payload = lz4.block.decompress(payload, uncompressed_size=length)
        if compression == 2:
            payload = zstandard.ZstdDecompressor().decompress(payload, max_output_size=length)
    except (lz4.block.LZ4BlockError, zstandard.ZstdError) as error:
        raise DamageError(str(error)) from None
    if len(payload) != length or blake3(payload).digest() != digest:
        raise DamageError("its hash is wrong")
    return payload


def recover(out: BinaryIO, size: int, chunk_size: int, found: Iterable[tuple[Subject, int, int, bytes | None]]) -> None:
    """Writes every chunk that is found, and prints which are not, and of which the copies differ."""
    have, differing = dict[int, bytes](), set[int]()
    out.truncate(size)
    for _, first, count, raw in found:
        for chunk in range(first, first + count):
            content = raw or bytes(min(chunk_size, size - chunk * chunk_size))
            digest = blake3(content).digest()
            if have.get(chunk, digest) != digest:
                differing.add(chunk)
            # Zeros are a hole, unless something was there.
            if raw or chunk in have:
                out.seek(chunk * chunk_size)
                out.write(content)
            have[chunk] = digest
    missing = sorted(set(range(-(-size // chunk_size))) - have.keys())
    print(f"recovered: {len(have)} chunks of {chunk_size} bytes")
    print(f"on none of these devices, left as holes: {ranges(missing)}")
    print(f"with copies that differ, the later was taken: {ranges(sorted(differing))}")


def ranges(chunks: list[int]) -> str:
    """As in `3-5, 9`."""
    begins, ends = sorted(set(chunks) - {one + 1 for one in chunks}), sorted(set(chunks) - {one - 1 for one in chunks})
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in zip(begins, ends, strict=True)) or "none"


def main() -> None:
    parser = argparse.ArgumentParser(description="Recover a VDISK from transport devices.")
    parser.add_argument("--key", action="append", required=True, type=bytes.fromhex, help="one, or one for each folder")
    parser.add_argument("--vdisk", required=True)
    parser.add_argument("--load", action="append", help="may be repeated; without it all loads of the VDISK")
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DEVICE_FOLDER")
    given = parser.parse_args()
    keys = given.key * len(given.folders) if len(given.key) == 1 else given.key
    if len(keys) != len(given.folders) or any(len(key) != 32 for key in keys):
        parser.error("a key has 64 hexadecimal digits, and there is one for all folders or one for each")
    devices = [Device(folder, key) for folder, key in zip(given.folders, keys, strict=True)]
    subjects = {subject for device in devices for pack in device.subjects.values() for subject in pack.values()}
    for subject in sorted(subjects):
        print(f"load {subject.load}: VDISK {subject.vdisk} of {subject.migration}, {subject.size} bytes")
    asked = [one for one in subjects if one.vdisk == given.vdisk and one.load in (given.load or [one.load])]
    if len({one[1:] for one in asked}) != 1:
        print(f"{'several VDISKs are' if asked else 'no VDISK is'} meant by this: name loads of the same VDISK")
        sys.exit(2)
    loads = {one.load for one in asked}
    with given.out.open("xb") as out:
        recover(out, asked[0].size, asked[0].chunk_size, (one for device in devices for one in device.chunks(loads)))
    sys.exit(any(device.damaged for device in devices))


if __name__ == "__main__":
    main()
