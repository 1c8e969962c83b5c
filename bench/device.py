"""A transport device loaded and unloaded, against what the disk under it and the processor give in the same run."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import lz4.block  # type: ignore[import-untyped]
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench import image
from bench.equal import are_equal
from bench.goals import Goal, paragraph, table, verdicts
from bench.measure import Sample, TooSlowError, median, run, sample, sync
from bench.memory import highest
from bench.places import loopback
from bench.servers import EXPORT, Engines, engines
from drover.engine.client import EngineClient, file

SIZE = 4 << 30
QUICK_SIZE = 256 << 20
ROUNDS = 3
PATIENCE = 600.0
LOADING, UNLOADING = "loading", "unloading"
DD, FIO, DD_BACK = "dd of the source", "fio, writing", "dd of the packs"
BLAKE3, AES, LZ4, ZSTD = "BLAKE3", "AES-256-GCM", "LZ4", "zstd 1"
_DEVICE, _KEY = "d0" * 16, b"bench's device key, 32 bytes long"[:32]
_CHUNK = 512 << 10
_PIECES = 64
"""Chunks of the source that each kernel goes over, again and again: more than the caches next to a core hold."""
_KERNEL_SECONDS = 1.0


@dataclass(frozen=True)
class Carried:
    """Medians of one content. Bytes of the VDISK, of what of it is no hole, and of the packs; bytes of each engine's
    memory at its highest while the device was loaded, and then unloaded; bytes/s of each kernel on one core and all."""

    size: int
    data: int
    written: int
    samples: dict[str, Sample]
    memory: dict[str, int]
    kernels: dict[str, tuple[float, float]]


def measure(folder: Path, *, quick: bool) -> dict[str, Carried]:
    """Both ways by content, `incompressible` and `mix`. Raises RuntimeError if what was unloaded is not the source."""
    size = QUICK_SIZE if quick else SIZE
    makers: dict[str, Callable[[Path, int], None]] = {"incompressible": image.make_incompressible, "mix": image.make}
    return {content: _measure(folder, content, make, size) for content, make in makers.items()}


def _measure(folder: Path, content: str, make: Callable[[Path, int], None], size: int) -> Carried:
    print(f"  {content}, {size >> 20} MiB", flush=True)
    source = folder / "source.img"
    make(source, size)
    data = source.stat().st_blocks * 512
    # Nothing is compressed that a sample shows to be incompressible.
    kernels = _kernels(source, [BLAKE3, AES] if content == "incompressible" else [BLAKE3, AES, LZ4, ZSTD])
    taken: dict[str, list[Sample]] = {name: [] for name in (LOADING, DD, FIO, UNLOADING, DD_BACK)}
    memory, written = dict.fromkeys((LOADING, UNLOADING), 0), 0
    for turn in range(ROUNDS):
        ours_first = turn % 2 == 0
        if not ours_first:
            _write_plainly(folder, source, taken)
        with _device(folder, source) as device:
            taken[LOADING].append(device.load())
            written = device.written()
            memory[LOADING] = max(memory[LOADING], *device.memory())
            if ours_first:
                _write_plainly(folder, source, taken)
                taken[UNLOADING].append(device.unload())
            taken[DD_BACK].append(_copy_packs(folder, device.packs))
            if not ours_first:
                taken[UNLOADING].append(device.unload())
            memory[UNLOADING] = max(memory[UNLOADING], *device.memory())
        if not are_equal(source, folder / "target.img"):
            raise RuntimeError("what was unloaded differs from the source")
        told = ", ".join(f"{name} {samples[-1].seconds:.2f} s" for name, samples in taken.items())
        print(f"  {turn + 1}/{ROUNDS} {told}", flush=True)
    medians = {name: median(samples) for name, samples in taken.items()}
    return Carried(size, data, written, medians, memory, kernels)


class _Device:
    """A device's folder on the disk, and a VDISK between two joined engines."""

    def __init__(self, folder: Path, source: Path, pair: Engines) -> None:
        self.packs, self._source, self._target, self._pair = folder / "packs", source, folder / "target.img", pair
        size = source.stat().st_size
        pair.far.put_vdisk(EXPORT, size=size, endpoint=file(str(self._target), create=True))
        pair.near.put_vdisk(EXPORT, size=size, endpoint=file(str(source)), label="bench")

    def load(self) -> Sample:
        """From the page cache, until all is on the disk and the packs are closed."""
        run("cp", self._source, "/dev/null")
        return sample(self._load, self._pair.pids)

    def _load(self) -> None:
        near = self._pair.near
        near.put_device(_DEVICE, path=str(self.packs), key=_KEY, purpose="load")
        near.background(EXPORT, "load")
        _await(near, lambda: near.status().vdisks[EXPORT].background.state == "loaded")
        near.remove_device(_DEVICE)

    def unload(self) -> Sample:
        """From the disk, until all is stable at the destination."""
        _forget(self.packs)
        return sample(self._unload, self._pair.pids)

    def _unload(self) -> None:
        far = self._pair.far
        far.put_device(_DEVICE, path=str(self.packs), key=_KEY, purpose="unload")
        _await(far, lambda: far.status().devices[_DEVICE].state == "done")
        sync(self._target)
        if left := self._pair.near.status().vdisks[EXPORT].background.left_bytes:
            raise RuntimeError(f"{left} bytes did not come off the device")

    def written(self) -> int:
        """Bytes of all packs."""
        return sum(path.stat().st_size for path in self.packs.iterdir())

    def memory(self) -> list[int]:
        """Of each engine, at its highest so far."""
        return [highest(pid) for pid in self._pair.pids]


@contextlib.contextmanager
def _device(folder: Path, source: Path) -> Iterator[_Device]:
    """An empty one, and engines that know of nothing."""
    shutil.rmtree(folder / "packs", ignore_errors=True)
    (folder / "packs").mkdir()
    (folder / "target.img").unlink(missing_ok=True)
    with engines(loopback(), folder) as pair:
        yield _Device(folder, source, pair)


def _await(engine: EngineClient, check: Callable[[], bool]) -> None:
    """Until `check` holds. Raises RuntimeError if the VDISK is held or the device ended early, TooSlowError."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        status = engine.status()
        device, error = status.devices[_DEVICE], status.vdisks[EXPORT].error
        if error or device.state in ("failed", "full"):
            raise RuntimeError(f"the engine gave up: {error.message if error else device.error or device.state}")
        if time.monotonic() > deadline:
            raise TooSlowError(f"the device is not done after {PATIENCE:g} s")
        time.sleep(0.02)


def _write_plainly(folder: Path, source: Path, taken: dict[str, list[Sample]]) -> None:
    """What the disk takes, from a copier and from memory."""
    plain = folder / "plain"
    copying = ["dd", f"if={source}", f"of={plain}", "bs=4M", "oflag=direct", "conv=fsync", "status=none"]
    writing = [
        "fio", "--name=plain", f"--filename={plain}", "--rw=write", "--bs=4M", f"--size={source.stat().st_size}",
        "--ioengine=libaio", "--iodepth=4", "--direct=1", "--end_fsync=1", "--fallocate=none", "--output-format=json",
    ]  # fmt: skip
    run("cp", source, "/dev/null")
    taken[DD].append(sample(lambda: run(*copying), []))
    plain.unlink()
    said: list[str] = []
    whole = sample(lambda: said.append(run(*writing)), [])
    plain.unlink()
    # Its start takes longer than a tenth of what a fast disk needs.
    taken[FIO].append(replace(whole, seconds=json.loads(said[0])["jobs"][0]["job_runtime"] / 1e3))


def _copy_packs(folder: Path, packs: Path) -> Sample:
    """Read and written, as by who unloads; each into a file of its own."""
    plain = folder / "plain"
    plain.mkdir()
    copying = "dd if=$pack of=$0/${pack##*/} bs=4M iflag=direct oflag=direct conv=fsync status=none"
    script = f"set -e; for pack in $1/*.pack; do {copying}; done"
    try:
        return sample(lambda: run("sh", "-c", script, plain, packs), [])
    finally:
        shutil.rmtree(plain)


def _forget(packs: Path) -> None:
    """Takes the packs out of the page cache: a device that was carried comes without."""
    for path in packs.iterdir():
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _kernels(source: Path, names: list[str]) -> dict[str, tuple[float, float]]:
    """Bytes/s of each on one core and on all."""
    cores = os.cpu_count() or 1
    found = {}
    with ProcessPoolExecutor(cores, mp_context=get_context("fork")) as pool:
        for name in names:
            alone = pool.submit(_kernel, name, source).result()
            together = [pool.submit(_kernel, name, source) for _ in range(cores)]
            found[name] = alone, sum(one.result() for one in together)
    return found


def _kernel(name: str, source: Path) -> float:
    """Bytes/s of one kernel over chunks of the source, in this process."""
    cipher, compressor = AESGCM(_KEY), zstandard.ZstdCompressor(level=1)
    works: dict[str, Callable[[bytes], object]] = {
        BLAKE3: lambda raw: blake3(raw).digest(),
        AES: lambda raw: cipher.encrypt(bytes(12), raw, None),
        LZ4: lambda raw: lz4.block.compress(raw, store_size=False),
        ZSTD: compressor.compress,
    }
    pieces, work = _pieces(source), works[name]
    done, begun = 0, time.monotonic()
    while (seconds := time.monotonic() - begun) < _KERNEL_SECONDS:
        for piece in pieces:
            work(piece)
        done += sum(map(len, pieces))
    return done / seconds


def _pieces(source: Path) -> list[bytes]:
    """Chunks from all over the source, without its holes."""
    with source.open("rb") as handle:
        size, pieces = source.stat().st_size, []
        for number in range(_PIECES):
            begin = os.lseek(handle.fileno(), number * (size // _PIECES), os.SEEK_DATA)
            pieces.append(os.pread(handle.fileno(), _CHUNK, begin // _CHUNK * _CHUNK))
    return pieces


def describe(found: dict[str, Carried]) -> str:
    """The section of RESULTS.md."""
    goals = [goal for content, one in found.items() for goal in goals_of(content, one)]
    peak = max(max(one.memory.values()) for one in found.values())
    goals.append(Goal("memory of either engine, MiB", peak / (1 << 20), 256, at_least=False))
    sizes = next(iter(found.values()))
    lines = [
        paragraph(
            f"A VDISK of {sizes.size / (1 << 30):g} GiB in a file, in the page cache, is loaded onto a transport "
            "device: a folder on the same disk; then, from packs that are not in the page cache, unloaded into a new "
            "file there. Both end with everything on the disk. Two engines on this machine, joined over loopback, "
            f"since holes go over the link; new ones in each of {ROUNDS} rounds, the order turned round, medians; what "
            "was unloaded was compared with the source byte by byte. Processor time is of both engines."
        ),
        "",
        paragraph(
            "dd copies the source with oflag=direct, bs=4M and conv=fsync; fio writes as many bytes from memory, 4 MiB "
            "at a time, four under way, past the page cache, with end_fsync; its start is not counted. On the way back "
            "dd copies the packs, read with iflag=direct too. The kernels go over chunks of the same VDISK, with the "
            "Python packages of the same names. The limit is the longer of two times: the bytes written at the speed "
            "of dd, and the data, without holes, at that of the slowest kernel on all cores: of "
            f"{BLAKE3}, {AES} and, when the mix is loaded, {LZ4}; not of {ZSTD}, for which the disk must be slow."
        ),
        "",
        verdicts(goals),
        "",
    ]
    for content, one in found.items():
        lines += [_title(content, one), "", _copies(one), "", _speeds(one), ""]
    return "\n".join(lines).strip()


def goals_of(content: str, one: Carried) -> Iterator[Goal]:
    """Loading and unloading, each against the disk or the processor, whichever is slower."""
    slowest = {LOADING: min(both for name, (_, both) in one.kernels.items() if name != ZSTD)}
    slowest[UNLOADING] = min(one.kernels[name][1] for name in (BLAKE3, AES))
    disk = {
        LOADING: one.written / (one.size / one.samples[DD].seconds),
        # dd reads and writes the packs; unloading reads them too, and writes what was in them.
        UNLOADING: max(one.data, one.written) / (one.written / one.samples[DD_BACK].seconds),
    }
    for way in (LOADING, UNLOADING):
        kernel = one.data / slowest[way]
        by = "dd" if disk[way] > kernel else "the slowest kernel"
        limit = max(disk[way], kernel)
        yield Goal(f"{content}, {way}: speed ÷ the limit, {by}", limit / one.samples[way].seconds, 0.9)


def _title(content: str, one: Carried) -> str:
    what = (
        f"{one.data / 1e6:.0f} MB of {one.size / 1e6:.0f} MB are no holes, {one.written / 1e6:.0f} MB are on the device"
    )
    peaks = f"{one.memory[LOADING] >> 20} MiB at the end of loading, {one.memory[UNLOADING] >> 20} MiB of unloading"
    return paragraph(f"{content.capitalize()}: {what}. The larger engine's memory was at most {peaks}.")


def _copies(one: Carried) -> str:
    moved = {LOADING: one.written, DD: one.size, FIO: one.size, UNLOADING: one.written, DD_BACK: one.written}
    rows = [
        (
            name,
            f"{taken.seconds:.2f}",
            f"{one.size / taken.seconds / 1e6:.0f}" if name in (LOADING, UNLOADING) else "",
            f"{moved[name] / taken.seconds / 1e6:.0f}",
            f"{taken.cpu_seconds:.2f}",
            f"{taken.cpu_seconds / one.size * 1e9:.2f}",
        )
        for name, taken in one.samples.items()
    ]
    heads = ("", "s", "MB/s of the VDISK", "MB/s of the device", "processor s", "processor s per GB of the VDISK")
    return table(heads, rows)


def _speeds(one: Carried) -> str:
    rows = [(name, f"{alone / 1e6:.0f}", f"{both / 1e6:.0f}") for name, (alone, both) in one.kernels.items()]
    return table(("kernel", "MB/s on one core", "on all cores"), rows)
