"""The reader that is written by the format's description alone reads what the engine writes, damaged or not."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench.measure import wait
from bench.places import loopback
from bench.servers import engines

from drover.engine.client import file

READER = Path(__file__).parents[2] / "docs/recover.py"
CHUNK = 512 << 10
HOLE_AT, HOLE, ZEROS = 6 << 20, 2 << 20, 2 << 20
SIZE = (24 << 20) + (100 << 10)
DEVICES = {"00" * 16: b"k" * 32, "f1" * 16: b"K" * 32}


@dataclass(frozen=True)
class Loaded:
    """Devices in their folders, as the engine left them, and what it read."""

    source: Path
    folders: list[Path]

    def packs(self) -> list[Path]:
        return sorted(path for folder in self.folders for path in (folder / "drover/packs").iterdir())


def mixed(dice: random.Random) -> bytes:
    """Random, twice the same, text, zeros in whole and in half chunks; the last chunk is short. It has a hole too."""
    noise, words = dice.randbytes(6 << 20), [b"order", b"invoice", b"shipped", b"late"]
    text = b" ".join(dice.choices(words, k=2 << 20))[: 6 << 20]
    whole = noise + bytes(HOLE + ZEROS) + noise[: 4 << 20] + text + bytes(CHUNK // 2) + noise[: CHUNK // 2]
    return whole + dice.randbytes(SIZE - len(whole))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("loaded")
    source = folder / "source.img"
    content = mixed(random.Random(61))
    with source.open("wb") as image:
        image.write(content[:HOLE_AT])
        image.seek(HOLE_AT + HOLE)
        image.write(content[HOLE_AT + HOLE :])
    folders = [folder / name for name in DEVICES]
    with engines(loopback(), folder) as pair:
        pair.far.put_vdisk("vda", size=SIZE, endpoint=file(str(folder / "target.img"), create=True))
        pair.near.put_vdisk("vda", size=SIZE, endpoint=file(str(source)), label="web")
        for name, key in DEVICES.items():
            packs = folder / name / "drover/packs"
            packs.mkdir(parents=True)
            pair.near.put_device(name, path=str(packs), key=key, purpose="load")
        pair.near.background("vda", "load")
        wait("the load", lambda: pair.near.status().vdisks["vda"].background.state == "loaded", 30)
        for name in DEVICES:
            pair.near.remove_device(name)
    return Loaded(source, folders)


@pytest.fixture
def loaded(original: Loaded, tmp_path: Path) -> Iterator[Loaded]:
    """A copy that a test may damage."""
    for folder in original.folders:
        shutil.copytree(folder, tmp_path / folder.name)
    yield Loaded(original.source, [tmp_path / folder.name for folder in original.folders])


def recover(loaded: Loaded, out: Path, *options: str, status: int = 0) -> str:
    keys = [f"--key={key.hex()}" for key in DEVICES.values()]
    command = [sys.executable, READER, *keys, "--vdisk=vda", *options, out, *loaded.folders]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def chunks(path: Path) -> list[bytes]:
    raw = path.read_bytes()
    return [raw[offset : offset + CHUNK] for offset in range(0, len(raw), CHUNK)]


def missing(said: str) -> set[int]:
    """The chunks that the reader left as holes."""
    found = re.search(r"left as holes: (.*)", said)
    assert found
    parts = [part.split("-") for part in found.group(1).split(", ") if part != "none"]
    return {chunk for part in parts for chunk in range(int(part[0]), int(part[-1]) + 1)}


def test_a_vdisk_comes_back_from_two_devices(loaded: Loaded, tmp_path: Path) -> None:
    out = tmp_path / "out.img"
    said = recover(loaded, out)
    assert out.read_bytes() == loaded.source.read_bytes()
    # Holes went over the link; zeros that the file system does not tell from data are on a device.
    assert missing(said) == set(range(HOLE_AT // CHUNK, (HOLE_AT + HOLE) // CHUNK))
    assert out.stat().st_blocks * 512 <= SIZE - HOLE - ZEROS + CHUNK, "zeros are no holes any more"
    assert "damaged" not in said
    assert len(set(re.findall(r"load ([0-9a-f]{32}): VDISK vda of web", said))) == 2


def test_one_load_alone_has_its_share(loaded: Loaded, tmp_path: Path) -> None:
    said = recover(loaded, tmp_path / "all.img")
    shares = [
        missing(recover(loaded, tmp_path / f"{load}.img", f"--load={load}"))
        for load in re.findall(r"load ([0-9a-f]{32})", said)
    ]
    assert shares[0] & shares[1] == missing(said)
    assert shares[0] != shares[1]
    recover(loaded, tmp_path / "none.img", f"--load={'0' * 32}", status=2)
    assert not (tmp_path / "none.img").exists()


def check_rest(loaded: Loaded, out: Path, said: str) -> set[int]:
    """All that is not named as missing is right; the chunks that damage took."""
    gone = missing(said)
    wanted, got = chunks(loaded.source), chunks(out)
    assert len(got) == len(wanted)
    for number, (before, after) in enumerate(zip(wanted, got, strict=True)):
        assert after == (bytes(len(before)) if number in gone else before), number
    return {number for number in gone if any(wanted[number])}


@pytest.mark.parametrize("share", [0.75, 0.4])
def test_a_truncated_pack_gives_what_is_left_of_it(loaded: Loaded, tmp_path: Path, share: float) -> None:
    pack, out = loaded.packs()[0], tmp_path / "out.img"
    os.truncate(pack, int(pack.stat().st_size * share))
    said = recover(loaded, out, status=1)
    assert "the pack is cut short here" in said
    assert 0 < len(check_rest(loaded, out, said)) < 40


def test_flipped_bits_cost_the_frames_that_they_hit_and_are_named(loaded: Loaded, tmp_path: Path) -> None:
    dice, out = random.Random(62), tmp_path / "out.img"
    for pack in loaded.packs():
        raw = bytearray(pack.read_bytes())
        # Beyond the first description, which has a test of its own.
        for _ in range(5):
            raw[dice.randrange(4096, len(raw))] ^= 1 << dice.randrange(8)
        raw[dice.randrange(88)] ^= 1
        pack.write_bytes(raw)
    said = recover(loaded, out, status=1)
    taken = check_rest(loaded, out, said)
    named = {int(chunk) for chunk in re.findall(r"damaged: .*chunk (\d+) of VDISK number 0", said)}
    assert taken
    assert named >= taken


def test_either_description_of_a_vdisk_will_do_with_an_index_and_without(loaded: Loaded, tmp_path: Path) -> None:
    for pack in loaded.packs():
        raw = bytearray(pack.read_bytes())
        raw[1024 + 40] ^= 1
        pack.write_bytes(raw)
    assert check_rest(loaded, tmp_path / "index.img", recover(loaded, tmp_path / "index.img", status=1)) == set()
    for pack in loaded.packs():
        raw = bytearray(pack.read_bytes())
        raw[-1024] ^= 1
        raw[-500] ^= 1
        pack.write_bytes(raw)
    assert check_rest(loaded, tmp_path / "scan.img", recover(loaded, tmp_path / "scan.img", status=1)) == set()


def test_without_an_index_a_head_that_is_gone_costs_its_frame_alone(loaded: Loaded, tmp_path: Path) -> None:
    pack, out = loaded.packs()[0], tmp_path / "out.img"
    raw = bytearray(pack.read_bytes())
    third = [offset for offset in range(1024, len(raw), 512) if raw[offset : offset + 4] == b"DRVF"][2]
    raw[third + 9] ^= 1
    raw[-500] ^= 1
    pack.write_bytes(raw)
    said = recover(loaded, out, status=1)
    assert f"{pack.name} at {third}, it is not known what: there is no head of a frame" in said
    # The trailer is a second one; a block may be that of several places.
    assert said.count("damaged: ") == 2 + said.count("points to") + said.count("VDISK number")
    assert 0 < len(check_rest(loaded, out, said)) < 4


def test_packs_that_are_missing_or_under_another_name_are_named(loaded: Loaded, tmp_path: Path) -> None:
    pack, out = loaded.packs()[0], tmp_path / "out.img"
    pack.rename(pack.with_name("4294967295.pack"))
    said = recover(loaded, out, status=1)
    assert "packs 0 to 4294967294: missing" in said
    assert "4294967295.pack: it has no header" in said
    assert check_rest(loaded, out, said)


def test_another_key_opens_nothing(loaded: Loaded, tmp_path: Path) -> None:
    swapped = Loaded(loaded.source, loaded.folders[::-1])
    assert "no VDISK" in recover(swapped, tmp_path / "out.img", status=2)
