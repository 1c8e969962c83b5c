"""Credentials open a real sshd and a real libvirtd, and are in no file, no argument and no text."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import libvirt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import ValidationError

from drover.errors import HostError, InputError
from drover.model.credentials import Credentials
from drover.platforms.libvirt import credentials
from drover.platforms.libvirt.connection import open_uri
from drover.platforms.libvirt.host import host_of

URI = "qemu+ssh://root@far/system"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="sshd and libvirtd in namespaces of their own need root")


def written(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


@pytest.fixture
def known() -> Iterator[dict[str, Credentials]]:
    """By URI; what is put here holds for the test."""
    by_uri: dict[str, Credentials] = {}
    credentials.ask(by_uri.get)
    yield by_uri
    credentials.ask(lambda _: None)
    credentials.close()


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `ssh` that leads to an sshd without a port, and the file of the keys that it lets in."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "host"], check=True)
    (tmp_path / "authorized").touch()
    (tmp_path / "sshd").write_text(
        f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\nStrictModes no\n"
        "PermitRootLogin prohibit-password\nUsePAM no\n"
    )
    run = f"mount -t tmpfs none /run && mkdir /run/sshd && exec /usr/sbin/sshd -i -f {tmp_path}/sshd"
    (tmp_path / "config").write_text(
        f"Host *\n  ProxyCommand unshare --mount sh -c '{run}'\n  UserKnownHostsFile {tmp_path}/known\n"
        "  StrictHostKeyChecking accept-new\n  IdentityFile none\n  LogLevel ERROR\n"
    )
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path}/config "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path / "authorized"


@needs_root
def test_the_key_of_a_site_lets_commands_and_libvirt_in(far: Path, known: dict[str, Credentials]) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    far.write_text(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
    with closing(host_of(URI)) as host, pytest.raises(HostError, match="Permission denied"):
        host.run("true")
    with pytest.raises(InputError, match="Permission denied"):
        open_uri(URI)
    known[URI] = Credentials(ssh_key=written(key))
    with closing(host_of(URI)) as host:
        assert host.run("echo", "in").stdout == b"in\n"
    # There is no libvirtd; that is known inside only.
    with pytest.raises(InputError) as told:
        open_uri(URI)
    assert "Permission denied" not in told.value.message and "libvirt" in told.value.message
    secret = written(key).splitlines()[2]
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert secret.encode() not in file.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_an_agent_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(written(ed25519.Ed25519PrivateKey.generate()))
    program = (
        "import pathlib, sys, time\n"
        "from drover.model.credentials import Credentials\n"
        "from drover.platforms.libvirt import credentials\n"
        "text = pathlib.Path(sys.argv[1]).read_text()\n"
        "print(credentials.ssh_options(Credentials(ssh_key=text))[1].partition('=')[2], flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path / "key"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    agent = Path(process.stdout.readline().strip())
    listed = subprocess.run(["ssh-add", "-l"], env={**os.environ, "SSH_AUTH_SOCK": str(agent)}, capture_output=True)
    assert b"ED25519" in listed.stdout
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 15
    while _answers(agent):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)])
def test_agents_take_every_usual_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    given = Credentials(ssh_key=written(key).replace("\n", "\r\n").strip())
    assert given.ssh_key is not None
    assert credentials.ssh_options(given)
    credentials.close()


def test_credentials_that_cannot_be_meant_are_refused_without_repeating_them(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "pl4nted", "-f", tmp_path / "closed"], check=True)
    closed = (tmp_path / "closed").read_text()
    wrong: list[dict[str, str]] = [
        {}, {"user": "pl4nted"}, {"password": "pl4nted"}, {"ssh_key": "pl4nted"}, {"ssh_key": closed},
        {"ssh_key": "pl4nted", "keys": "pl4nted"},
    ]  # fmt: skip
    for fields in wrong:
        with pytest.raises(ValidationError) as told:
            Credentials.model_validate(fields)
        assert "pl4nted" not in str(told.value)
        assert closed.splitlines()[1] not in str(told.value)
    whole = Credentials(user="u", password="pl4nted")
    assert "pl4nted" not in repr(whole) + str(whole) + whole.model_dump_json()
    assert Credentials.from_plain(whole.reveal()) == whole


class SimulatedSaslauthd:
    """Answers `OK` to one user and password, as Cyrus SASL's own daemon does on its socket."""

    def __init__(self, folder: Path, user: str, password: str) -> None:
        self._right = [user.encode(), password.encode()]
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "mux"))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as said:
                words = [said.read(struct.unpack("!H", said.read(2))[0]) for _ in range(4)]
                answer = b"OK" if words[:2] == self._right else b"NO"
                connection.sendall(struct.pack("!H", len(answer)) + answer)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def libvirtd(tmp_path: Path) -> Iterator[str]:
    """A libvirtd with its drivers for tests that asks for user and password; the URI of its socket."""
    (tmp_path / "sasl").mkdir()
    (tmp_path / "sasl" / "libvirt.conf").write_text(
        f"mech_list: plain\npwcheck_method: saslauthd\nsaslauthd_path: {tmp_path}/mux\n"
    )
    (tmp_path / "conf").write_text(
        f'auth_unix_rw = "sasl"\nauth_unix_ro = "none"\nunix_sock_dir = "{tmp_path}"\n'
        f'log_outputs = "3:file:{tmp_path}/log"\nhost_uuid = "4c4c4544-0051-4a10-8051-b5c04f4d3332"\n'
    )
    daemon = SimulatedSaslauthd(tmp_path, "drover", "pl4nted")
    hide = " && ".join(f"mount -t tmpfs none {path}" for path in ("/run", "/var/lib/libvirt", "/var/cache/libvirt"))
    command = f"{hide} && mount --bind {tmp_path}/sasl /etc/sasl2 && exec libvirtd -f {tmp_path}/conf"
    process = subprocess.Popen(["unshare", "--mount", "sh", "-c", command], stderr=subprocess.DEVNULL)
    try:
        path = tmp_path / "libvirt-sock"
        deadline = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        yield f"test+unix:///default?socket={path}"
    finally:
        process.terminate()
        process.wait(20)
        daemon.close()


@needs_root
def test_user_and_password_of_a_site_answer_libvirts_question(libvirtd: str) -> None:
    with pytest.raises(libvirt.libvirtError):
        credentials.open_with(libvirtd, None)
    with pytest.raises(libvirt.libvirtError) as told:
        credentials.open_with(libvirtd, Credentials(user="drover", password="wr0ng-pl4nted"))
    assert "pl4nted" not in str(told.value)
    connection = credentials.open_with(libvirtd, Credentials(user="drover", password="pl4nted"))
    assert connection.getType() == "TEST"
    connection.close()
