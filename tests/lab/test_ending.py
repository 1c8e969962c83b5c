"""Whatever happened to a lab, it can be ended without a trace, and brought up again."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from drover.errors import HostError
from drover.lab import Lab
from drover.lab.processes import find, has_mount

from .conftest import SMALL


def traces(lab: Lab) -> list[str]:
    """What a lab could leave behind on the machine."""
    name = str(lab.folder)
    processes = [
        f"{process.pid} {process.name}" for site in lab.sites for process in find(has_mount(site.namespace.mark))
    ]
    processes += [line for line in _commands() if name in line]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    loops = subprocess.run(["losetup", "--all"], capture_output=True, text=True, check=True).stdout
    return processes + mounts + [line for line in loops.splitlines() if name in line]


def _commands() -> list[str]:
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return lines


def _devices() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _settled(lab: Lab) -> list[str]:
    """Traces, after the kernel had a moment: it takes namespaces and loop devices down in the background."""
    deadline = time.monotonic() + 5
    while (left := traces(lab)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def kill_everything(lab: Lab) -> None:
    """As when the machine's memory runs out: no process of the lab gets to say a word."""
    for belongs in [*(site.namespace.belongs for site in lab.sites), lab.link.belongs]:
        for process in find(belongs):
            os.kill(process.pid, signal.SIGKILL)


def test_down_leaves_nothing_but_the_vdisks(folder: Path) -> None:
    devices = _devices()
    lab = Lab(folder)
    lab.up()
    lab.small_pool("alpha", "tiny", 16 << 20)
    lab.add_vm("cow", size=SMALL)
    lab.wait_console("alpha", "cow", "GUEST up")
    assert _devices() == devices
    assert lab.down() != []
    assert _settled(lab) == []
    assert _devices() == devices
    assert len(list(folder.rglob("cow-*"))) == 2
    assert lab.down() == []


def test_reset_deletes_what_the_lab_made_and_nothing_else(folder: Path) -> None:
    lab = Lab(folder)
    lab.up()
    (folder / "mine.txt").write_text("not the lab's")
    lab.reset()
    assert _settled(lab) == []
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    assert lab.reset() == []


def test_up_after_everything_was_killed(folder: Path) -> None:
    lab = Lab(folder)
    lab.up()
    lab.add_vm("cow", size=SMALL)
    lab.wait_console("alpha", "cow", r"WITNESS WROTE")
    kill_everything(lab)
    lab.up()
    assert lab.site("alpha").state("cow") in ("off", "crashed")
    said = len(lab.console("alpha", "cow"))
    lab.site("alpha").start("cow")
    lab.site("alpha").wait_console("cow", r"WITNESS WROTE", after=said)
    assert lab.link.get().cut is False


def test_vm_outlives_its_keeper_and_its_libvirtd(folder: Path) -> None:
    lab = Lab(folder)
    lab.up()
    lab.add_vm("cow", size=SMALL)
    alpha = lab.site("alpha")
    for victim in (alpha.pid, alpha.libvirtd_pid):
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        done = lab.up()
        assert any("alpha" in line for line in done)
        assert alpha.state("cow") == "running"
    lab.wait_console("alpha", "cow", r"WITNESS WROTE")
    assert lab.up() == []


def test_stopped_libvirtd_is_replaced_and_does_not_hold_up_the_end(folder: Path) -> None:
    lab = Lab(folder)
    lab.up()
    first = lab.site("beta").libvirtd_pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    assert any("beta: libvirtd started" in line for line in lab.up())
    second = lab.site("beta").libvirtd_pid
    assert second is not None and second != first
    os.kill(second, signal.SIGSTOP)
    lab.down()
    assert _settled(lab) == []


def test_lab_whose_files_were_deleted_can_be_ended(folder: Path) -> None:
    lab = Lab(folder)
    lab.up()
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    assert Lab(folder).down() != []
    assert _settled(lab) == []


def test_half_made_lab_can_be_ended(folder: Path) -> None:
    lab = Lab(folder)
    lab.site("alpha").namespace.ensure()
    lab.down()
    assert _settled(lab) == []


def test_without_root_the_lab_says_so(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            Lab(tmp_path / "lab").up()
        except HostError as error:
            os._exit(0 if "sudo" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_stranger_with_a_used_process_id_is_not_ours(folder: Path, name: str) -> None:
    # What is asked is the mount table of the process, which a stranger cannot have by accident.
    assert not Lab(folder).site(name).namespace.belongs(os.getpid())
