"""Every argument wrong in turn: one line that says what is wrong and what would be right, and nothing changed."""

from collections.abc import Callable

import pytest

from drover.lab import Lab
from tests.migration.drover import run
from tests.migration.world import Vm, traces

WRONG = {
    "a rate without a meaning": (["--bandwidth", "12xyz"], "'12xyz' is not a rate", "200mbit"),
    "a rate of nothing": (["--bandwidth", "0mbit"], "is zero", "no limit"),
    "a downtime without a meaning": (["--max-downtime", "soon"], "'soon' is not a duration", "30s"),
    "no downtime at all": (["--max-downtime", "0s"], "no time at all", "1ms"),
    "a cutover mode that is none": (["--cutover", "warp"], "'warp' is not a cutover mode", "restart"),
    "too many connections": (["--connections", "1000"], "not possible", "1 to 64"),
    "a compression that is none": (["--compression", "rar"], "'rar' is not a compression", "zstd"),
    "a network mapping without two ends": (["--network", "alpha-net"], "is not a mapping", "A=B"),
    "a network mapped twice": (["--network", "alpha-net=x"], "twice", "once"),
    "a pool named twice": (["--pool", "vda=raw"], "twice", "once"),
    "a shutdown time without a meaning": (["--shutdown-timeout", "x"], "is not a duration", "30s"),
    "a target time without a meaning": (["--target-time", "-4"], "is not a duration", "30s"),
    "a latency budget without a meaning": (["--max-latency", "20%"], "is not a latency budget", "+20%"),
    "a write floor without a meaning": (["--write-floor", "3"], "is not a rate", "mbit"),
}


def one_line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    return lines[0]


@pytest.fixture
def vm(make_vm: Callable[..., Vm]) -> Vm:
    return make_vm(pattern="idle", size=64 << 20)


def test_every_wrong_option_is_one_line_with_the_way_out(vm: Vm, lab: Lab) -> None:
    for what, (options, wrong, right) in WRONG.items():
        refused = run(vm.data, *vm.arguments, *options)
        line = one_line(refused.stderr)
        assert refused.returncode == 2, what
        assert wrong in line, what
        assert right in line, what
    assert traces(lab, vm.name) == []
    assert run(vm.data, "status", "--all").stdout.strip() == "No migrations."


def test_what_is_not_there_is_named_with_what_is(vm: Vm, lab: Lab) -> None:
    alpha, beta = lab.site("alpha").uri, lab.site("beta").uri
    there = ["--network", "alpha-net=beta-net"]
    cases = [
        (["migrate", "vm-none", "--from", alpha, "--to", beta], 2, "no VM 'vm-none'", vm.name),
        (["migrate", vm.name, "--from", alpha, "--to", alpha], 2, "the same site", "two sites"),
        (["migrate", vm.name, "--from", alpha, "--to", f"{alpha}/"], 2, "the same site", "two sites"),
        (
            ["migrate", vm.name, "--from", alpha, "--to", "qemu+unix:///system?socket=/no/such"],
            2,
            "cannot connect",
            "URI",
        ),
        (["migrate", vm.name, "--from", "nonsense://x", "--to", beta], 2, "nonsense", "qemu"),
        (["migrate", vm.name, "--from", "test:///default", "--to", beta], 2, "test:///default", "qemu"),
        (
            ["migrate", vm.name, "--from", alpha, "--to", beta, *there, "--pool", "no-pool"],
            3,
            "'no-pool'",
            "qcow2, raw",
        ),
        (["migrate", vm.name, "--from", alpha, "--to", beta, *there], 3, "no pool was named", "--pool"),
        (["migrate", vm.name, "--from", alpha, "--to", beta, "--pool", "raw"], 3, "'alpha-net'", "beta-net"),
        (["migrate", vm.name, "--from", alpha, "--to", beta, *there, "--pool", "vdz=raw"], 3, "vdz", "vda, vdb"),
        (["resume", "m-nothing"], 2, "no migration 'm-nothing'", "drover status"),
        (["cancel", "m-nothing"], 2, "no migration 'm-nothing'", "drover status"),
    ]
    for arguments, code, wrong, right in cases:
        refused = run(vm.data, *arguments)
        line = one_line(refused.stderr)
        assert refused.returncode == code, arguments
        assert wrong in line, arguments
        assert right in line, arguments
    assert vm.state("alpha") == "running"
    assert vm.state("beta") is None
    assert traces(lab, vm.name) == []


def test_a_vm_that_is_migrating_is_not_migrated_again(vm: Vm) -> None:
    process = vm.migrate("--max-downtime", "1ms")
    process.wait_state("ready")
    migration = process.events[-1]["migration"]
    again = run(vm.data, *vm.arguments)
    assert again.returncode == 2
    assert f"already migrating as {migration}" in one_line(again.stderr)
    stranger = run(vm.data / "elsewhere", *vm.arguments)
    assert stranger.returncode == 3
    assert "another Drover captures this VM" in one_line(stranger.stderr)
    second = run(vm.data, "resume", migration)
    assert second.returncode == 2
    assert "another drover process" in one_line(second.stderr)
    process.kill()
    assert run(vm.data, "cancel", migration).returncode == 0


def test_what_a_lost_drover_left_can_be_cleaned(vm: Vm, lab: Lab) -> None:
    process = vm.migrate("--max-downtime", "1ms")
    process.wait_state("ready")
    process.kill()
    cleaned = run(vm.data / "elsewhere", "clean", vm.name, "--from", lab.site("alpha").uri)
    assert cleaned.returncode == 0, cleaned.stderr
    assert not [trace for trace in traces(lab, vm.name) if trace.startswith(("bitmap", "export", "QEMU"))]
    assert run(vm.data, "cancel", process.events[-1]["migration"]).returncode == 0
