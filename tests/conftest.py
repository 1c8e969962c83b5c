"""One lab for all migrations, a VM of its own for each test; a PostgreSQL cluster for whoever asks for it."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from drover.lab import Lab
from drover.store.location import FILE
from tests.migration.world import Vm, guards, sweep, traces
from tests.postgresql import Cluster

_numbers = itertools.count(1)
# How long an example takes says more of the machine than of Drover.
settings.register_profile("drover", deadline=None)
settings.load_profile("drover")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell starts what runs in the background; what the tests start and interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    lab = Lab(Path(__file__).parents[1] / ".lab" / worker)
    lab.reset()
    lab.up()
    yield lab
    lab.reset()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A data folder whose database is of either kind."""
    if request.param == "postgresql":
        cluster: Cluster = request.getfixturevalue("postgresql")
        (tmp_path / FILE).write_text(cluster.new_schema())
    return tmp_path


@pytest.fixture
def make_vm(lab: Lab, tmp_path: Path) -> Iterator[Callable[..., Vm]]:
    """Makes running VMs, and at the end demands that nothing of Drover's is left of them at either site."""
    made: list[str] = []

    def make(
        *,
        pattern: str = "random",
        rate: float = 40,
        formats: tuple[str, str] = ("raw", "qcow2"),
        size: int = 96 << 20,
        start: bool = True,
    ) -> Vm:
        name = f"vm-{next(_numbers)}"
        made.append(name)
        lab.add_vm(name, formats=formats, size=size, pattern=pattern, rate=rate, start=start)
        if start:
            lab.wait_console("alpha", name, r"WITNESS (WROTE|NEW)")
        return Vm(lab, name, tmp_path)

    yield make
    lab.link.set(rate=None, delay=0, jitter=0, loss=0, cut=False)
    left = [trace for name in made for trace in traces(lab, name)] + [f"guard {pid}" for pid in guards(tmp_path)]
    if left:
        sweep(lab, tmp_path)
    for name in made:
        for site in lab.sites:
            if site.state(name) is not None:
                site.remove(name)
    assert not left
