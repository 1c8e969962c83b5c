"""`drover` whose migrations are simulated: a process that holds its record, enters the states and notes what it does.

Run as `python -m tests.server.simulated server …`; SIMULATED_ACTS is the file that the acts are noted in, one a line:
migration, number of the act, process. SIMULATED_TURNS is how many acts a migration has, SIMULATED_PAUSE the seconds
between them. All that is simulated is the work: processes, locks, records and workflows are the real ones.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

STATES = ("preparing", "replicating", "ready", "cutting over", "verifying", "starting", "finished")


def start_process(migration: str, _since: float) -> "subprocess.Popen[bytes]":
    """In place of `drover resume ID`."""
    command = [sys.executable, "-m", "tests.server.simulated", "one", migration]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def migrate(identity: str) -> None:
    """Goes on from what was done: `facts.epoch` counts the acts."""
    from drover.model.migration import State
    from drover.store import MigrationStore

    store = MigrationStore()
    migration = store.get(identity)
    turns, pause = int(os.environ["SIMULATED_TURNS"]), float(os.environ["SIMULATED_PAUSE"])
    with store.running(migration):
        # As every run of a migration it asks the world first; later it goes by what it knows.
        migration.facts.epoch = acted(identity)
        while migration.facts.epoch < turns:
            time.sleep(pause)
            act(identity, migration.facts.epoch)
            migration.facts.epoch += 1
            store.save(migration)
        for state in STATES[STATES.index(migration.state) + 1 if migration.state in STATES else 0 :]:
            store.enter(migration, State(state))


def act(migration: str, number: int) -> None:
    """What nobody may do who was replaced: asked for in the same way as by what acts on VMs and engines."""
    try:
        from drover.fence import require
    except ImportError:
        pass  # the version before this one
    else:
        require()
    with Path(os.environ["SIMULATED_ACTS"]).open("a") as acts:
        acts.write(f"{migration} {number} {os.getpid()}\n")


def acted(migration: str) -> int:
    """How many acts the world has seen."""
    acts = Path(os.environ["SIMULATED_ACTS"])
    return sum(line.startswith(f"{migration} ") for line in acts.read_text().splitlines()) if acts.exists() else 0


def main() -> None:
    if sys.argv[1] == "one":
        migrate(sys.argv[2])
        return
    from drover.cli.main import main as drover
    from drover.workflows import attend

    attend.start_process = start_process
    drover()


if __name__ == "__main__":
    main()
