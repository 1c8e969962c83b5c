"""`drover server` as its users meet it: first start, log-in, the verbs through it, restart, wrong questions."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

DROVER = Path(sys.executable).parent / "drover"
PLAN = "version: 1\nplan: office\nfrom: here\nto: there\nvms: [web]\n"


@dataclass
class Server:
    """A `drover server` process and its users' machine."""

    folder: Path
    port: int = 0
    url: str = ""
    authority: str = ""
    first: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[str] | None" = None

    def start(self) -> dict[str, str]:
        command = [DROVER, "server", "--port", str(self.port), "--json", "--log-format", "json"]
        env = {**os.environ, "DROVER_DATA": str(self.folder / "data")}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
        assert self.process.stdout is not None
        said: dict[str, str] = json.loads(self.process.stdout.readline())
        self.url, self.authority = said["url"], said["authority"]
        self.port = int(self.url.rpartition(":")[2])
        return said

    def end(self, by: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(by)
        return self.process.wait(30)

    def drover(self, *words: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, "XDG_CONFIG_HOME": str(self.folder / "config"), "DROVER_DATA": str(self.folder / "else")}
        return subprocess.run(
            [DROVER, *words], input=typed, capture_output=True, text=True, env=env, timeout=120, check=False
        )

    def asked(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.drover("--server", self.url, *words)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("served"))
    server.first = server.start()
    try:
        yield server
    finally:
        server.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def logged_in(server: Server) -> Server:
    words = ("login", server.url, "--name", "admin", "--authority", server.authority)
    password = server.first["one_time_password"]
    done = server.drover(*words, typed=f"{password}\nmy own password\nmy own password\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "admin (administrator) is logged in" in done.stdout
    return server


def test_who_has_not_logged_in_is_told_how(server: Server) -> None:
    done = server.drover("--server", "https://127.0.0.1:1", "status")
    assert done.returncode == 2 and "drover login https://127.0.0.1:1" in done.stderr
    assert "https://HOST" in server.drover("login", "127.0.0.1:1", "--name", "a", typed="b\n").stderr


def test_a_server_of_another_authority_is_not_believed(server: Server) -> None:
    done = server.drover("login", server.url, "--name", "admin", "--password-file", "-", typed="x")
    assert done.returncode == 1 and "certificate" in done.stderr.lower() and "authority" in done.stderr


def test_what_is_secret_is_for_its_owner_only(logged_in: Server) -> None:
    data = logged_in.folder / "data"
    kept = [logged_in.folder / "config/drover/servers.json", *(data / "tls").glob("*.key"), data / "vault.key"]
    assert len(kept) == 4
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in kept)
    assert stat.S_IMODE((logged_in.folder / "data").stat().st_mode) == 0o700
    token = json.loads(kept[0].read_text())[logged_in.url]["token"]
    processes = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert token not in processes
    stored = b"".join(path.read_bytes() for path in (logged_in.folder / "data").glob("*.sqlite*"))
    assert token.encode() not in stored and b"my own password" not in stored


def test_the_verbs_work_through_it(logged_in: Server, tmp_path: Path) -> None:
    assert "no site of this server" in _run_plan(logged_in, tmp_path).stderr
    for name in ("here", "there"):
        assert logged_in.asked("site", "add", name, f"qemu:///x?socket=/nowhere/{name}").returncode == 0
    listed = [json.loads(line) for line in logged_in.asked("site", "list", "--json").stdout.splitlines()]
    assert [site["name"] for site in listed] == ["here", "there"]
    words = ("site", "credentials", "here", "--user", "drover", "--password-file", "-")
    assert "kept" in logged_in.drover("--server", logged_in.url, *words, typed="pl4nted-passw0rd\n").stdout
    assert b"pl4nted" not in b"".join(path.read_bytes() for path in (logged_in.folder / "data").glob("*.sqlite*"))
    done = _run_plan(logged_in, tmp_path)
    assert done.returncode == 3 and "refused: cannot connect to" in done.stdout
    wrong = logged_in.asked("migrate", "web", "--from", "here", "--to", "there", "--bandwidth", "fast")
    assert wrong.returncode == 2 and "--bandwidth" in wrong.stderr
    done = logged_in.asked("migrate", "web", "--from", "here", "--to", "there", "--json")
    assert done.returncode == 3 and json.loads(done.stdout.splitlines()[-1])["state"] == "refused"
    assert "No migrations" in logged_in.asked("status").stdout
    missing = logged_in.asked("pause", "m-none")
    assert missing.returncode == 2 and "m-none" in missing.stderr
    for verb in ("resume", "cancel", "status"):
        assert logged_in.asked(verb, "m-none").returncode == 2
    here = logged_in.asked("check", "web", "--from", "a", "--to", "b")
    assert here.returncode == 2 and "works on this machine" in here.stderr


def _run_plan(server: Server, folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / "plan.yaml").write_text(PLAN)
    return server.asked("plan", "run", str(folder / "plan.yaml"))


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_it_comes_back_with_everything_it_knew(logged_in: Server, by: signal.Signals) -> None:
    before = logged_in.asked("site", "list").stdout
    code = logged_in.end(by)
    assert code in (0, -by)
    again = logged_in.start()
    assert again["one_time_password"] is None and again["url"] == logged_in.url
    assert logged_in.asked("site", "list").stdout == before


def test_its_log_is_json_line_by_line_and_tells_who_asked_what(logged_in: Server) -> None:
    for name in ("one", "other"):
        assert logged_in.asked("site", "add", name, f"qemu:///x?socket=/nowhere/{name}").returncode == 0
    assert logged_in.asked("site", "list").returncode == 0
    assert logged_in.asked("migrate", "web", "--from", "one", "--to", "other").returncode == 3
    lines = [json.loads(line) for line in (logged_in.folder / "log").read_text().splitlines()]
    assert all({"timestamp", "level", "logger", "event"} <= line.keys() for line in lines)
    assert {"uvicorn.error", "drover.server", "drover.workflows"} <= {line["logger"] for line in lines}
    asked = [line for line in lines if line["event"] == "request" and line["path"] == "/v1/sites"]
    assert asked[-1]["user"] == "admin" and asked[-1]["status"] == 200 and asked[-1]["client"] == "127.0.0.1"
    assert len({line["request"] for line in asked}) == len(asked)
    assert any(line["event"] == "the run begins" and line["run"].startswith("r-") for line in lines)


def test_logging_out_revokes(server: Server, logged_in: Server) -> None:
    path = logged_in.folder / "config/drover/servers.json"
    kept = path.read_text()
    assert server.drover("logout", server.url).returncode == 0
    assert "login" in logged_in.asked("status").stderr
    path.write_text(kept)
    done = logged_in.asked("status")
    assert done.returncode == 1 and done.stderr
    assert server.drover("logout", "https://127.0.0.1:1").returncode == 2


def test_a_certificate_without_a_key_is_refused(server: Server) -> None:
    done = server.drover("server", "--certificate", "x.pem")
    assert done.returncode == 2 and "go together" in done.stderr
    done = server.drover("server", "--certificate", "x.pem", "--key", "y.pem")
    assert done.returncode == 2 and "x.pem" in done.stderr
