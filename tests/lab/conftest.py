"""A real lab for the tests: two libvirtd, QEMU, the emulated link. Needs root, and takes seconds, not minutes."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drover.lab import Lab

SMALL = 64 << 20


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root there is no lab: say so instead of failing."""
    if os.geteuid() != 0:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="the lab needs root"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short path, whose lab is ended afterwards whatever the test did to it."""
    # A name that needs quoting wherever it is put.
    path = Path(tempfile.mkdtemp(prefix="my & lab-")).resolve()
    yield path
    Lab(path).reset()
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab that is up, with one VM (`cow`) that writes; shared by the tests of one module."""
    path = Path(tempfile.mkdtemp(prefix="lab-")).resolve()
    made = Lab(path)
    try:
        made.up()
        made.add_vm("cow", size=SMALL)
        made.wait_console("alpha", "cow", r"WITNESS WROTE \d+")
        yield made
    finally:
        made.reset()
        shutil.rmtree(path, ignore_errors=True)


def run_at(lab: Lab, site: str, *command: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Runs a command as if logged in to a site."""
    return subprocess.run(lab.site(site).enter(*command), capture_output=True, text=True, timeout=timeout, check=False)
