"""A PostgreSQL cluster of the tests' own: in a temporary folder, on a unix socket, for as long as they run."""

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

_numbers = itertools.count(1)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else Path(shutil.which("initdb") or "/usr/bin/initdb").parent


class Cluster:
    """Runs as a user of its own if the tests run as root, which PostgreSQL refuses."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="drover-pg-", dir="/tmp"))
        self._as = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        if self._as:
            shutil.chown(self.folder, "nobody", "nogroup")
        # The tests' own user must reach the socket, which is all there is to reach.
        self.folder.chmod(0o755)
        self._run("initdb", "-D", self.folder / "data", "-U", "drover", "-A", "trust", "--no-sync", "-N", "-E", "UTF8")
        settings = f"listen_addresses=''\nunix_socket_directories='{self.folder}'\nfsync=off\nmax_connections=200\n"
        with (self.folder / "settings").open("w") as file:
            file.write(settings)
        include = f"cat {self.folder}/settings >> {self.folder}/data/postgresql.conf"
        subprocess.run([*self._as, "sh", "-c", include], check=True)
        self.start()

    def start(self) -> None:
        """Returns when it takes connections. It ends with this process, however that ends."""
        log = (self.folder / "log").open("ab")
        command = [
            "setpriv",
            "--pdeathsig=QUIT",
            *self._as[1:],
            str(_programs() / "postgres"),
            "-D",
            self.folder / "data",
        ]
        self._process = subprocess.Popen(command, cwd="/tmp", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 60
        while subprocess.run([_programs() / "pg_isready", "-q", "-h", self.folder], check=False).returncode != 0:
            assert self._process.poll() is None and time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """At once, as a crash would: what `pg_ctl -m immediate` does."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)

    def new_schema(self) -> str:
        """The address of an empty schema in a database that others use too: made and removed faster than a database."""
        name = f"test{next(_numbers)}"
        self._run("psql", "-q", "-h", self.folder, "-U", "drover", "-c", f"CREATE SCHEMA {name}", "postgres")
        return f"postgresql://drover@/postgres?host={self.folder}&options=-csearch_path%3D{name}"

    def new_database(self) -> str:
        """The address of an empty one, for servers: their workflows have a schema of their own."""
        name = f"test{next(_numbers)}"
        self._run("createdb", "-h", self.folder, "-U", "drover", name)
        return f"postgresql://drover@/{name}?host={self.folder}"

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *words: object) -> None:
        command = [*self._as, str(_programs() / program), *map(str, words)]
        subprocess.run(command, check=True, cwd="/tmp", stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
