"""Sites behind SSH: engines are put on the hosts, reached and removed through OpenSSH, as libvirt does with qemu+ssh.

The hosts are the lab's; `sshd -i` runs in their namespaces, so no port is opened anywhere.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from drover.lab import Lab
from tests.migration.drover import Drover
from tests.migration.world import Vm

_SSHD = "/run/sshd"
"""sshd's privilege separation folder, which a started system has."""


@pytest.fixture
def ssh(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `ssh` that leads to the hosts `alpha` and `beta`, with keys of its own."""
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / key], check=True)
    (tmp_path / "authorized").write_text((tmp_path / "user.pub").read_text())
    (tmp_path / "sshd").write_text(
        f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\nStrictModes no\n"
        "PermitRootLogin prohibit-password\nUsePAM no\nAllowStreamLocalForwarding yes\nMaxSessions 50\n"
    )
    entries = []
    for site in lab.sites:
        # A site's /run is its own.
        subprocess.run(site.enter("mkdir", "-p", _SSHD), check=True)
        proxy = " ".join(site.enter("/usr/sbin/sshd", "-i", "-f", str(tmp_path / "sshd")))
        entries.append(f"Host {site.name}\n  ProxyCommand {proxy}\n")
    (tmp_path / "config").write_text(
        "".join(entries)
        + f"Host *\n  User root\n  IdentityFile {tmp_path}/user\n  UserKnownHostsFile {tmp_path}/known\n"
        + "  StrictHostKeyChecking accept-new\n  LogLevel ERROR\n"
    )
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path}/config "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("ssh")
def test_a_vm_moves_between_hosts_behind_ssh(make_vm: Callable[..., Vm], lab: Lab) -> None:
    vm = make_vm(pattern="random")
    uris = ["--from", "qemu+ssh://root@alpha/system", "--to", "qemu+ssh://root@beta/system"]
    mapping = ["--network", "alpha-net=beta-net", "--pool", "qcow2"]
    process = Drover(vm.data, "migrate", vm.name, *uris, *mapping, "--cutover", "resume")
    finished = vm.compare_and_finish(process)
    assert finished["downtime_seconds"] > 0
    vm.assert_witness()
    assert lab.site("alpha").state(vm.name) == "off"
