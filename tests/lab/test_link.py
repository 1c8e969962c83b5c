"""The link between the sites does what it is told, at once."""

import re
import subprocess
import sys
import time

import pytest

from drover.errors import InputError
from drover.lab import Lab

from .conftest import run_at

MIB = 1 << 20


@pytest.fixture(autouse=True)
def free_link(lab: Lab) -> None:
    """Each test starts with a perfect line."""
    lab.link.set(rate=None, delay=0, jitter=0, loss=0, cut=False)


def ping(lab: Lab, count: int = 1) -> list[float]:
    """Round-trip times in seconds of the pings that came back."""
    beta = lab.site("beta").address
    said = run_at(lab, "alpha", "busybox", "ping", "-c", str(count), "-A", "-W", "1", beta).stdout
    return [float(number) / 1000 for number in re.findall(r"time=([\d.]+) ms", said)]


RECEIVE = """
import socket, sys
with socket.create_server(("", 7777)) as server:
    print("listening", flush=True)
    connection, _ = server.accept()
    left = int(sys.argv[1])
    while left > 0 and (piece := connection.recv(1 << 20)):
        left -= len(piece)
    print(left, flush=True)
"""
SEND = """
import socket, sys
with socket.create_connection((sys.argv[2], 7777)) as connection:
    connection.sendall(bytes(int(sys.argv[1])))
"""


def seconds_to_send(lab: Lab, size: int) -> float:
    """How long `size` bytes take from alpha to beta over TCP."""
    alpha, beta = lab.sites
    receive = beta.enter(sys.executable, "-c", RECEIVE, str(size))
    with subprocess.Popen(receive, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
        begun = time.monotonic()
        with subprocess.Popen(alpha.enter(sys.executable, "-c", SEND, str(size), beta.address)):
            assert receiver.stdout.readline() == "0\n"
            return time.monotonic() - begun


def test_packets_pass(lab: Lab) -> None:
    assert len(ping(lab, 3)) == 3


def test_delay_is_paid_each_way(lab: Lab) -> None:
    assert lab.link.set(delay=0.05).delay == 0.05
    times = ping(lab, 3)
    assert 0.1 <= min(times) < 0.2


def test_cut_stops_every_packet_and_heal_brings_the_settings_back(lab: Lab) -> None:
    lab.link.set(delay=0.02)
    lab.link.cut()
    assert ping(lab) == []
    lab.link.heal()
    assert ping(lab, 2)[-1] >= 0.04
    assert lab.link.get().delay == 0.02


def test_rate_holds(lab: Lab) -> None:
    assert lab.link.set(rate=2 * MIB).rate == 2 * MIB
    seconds = seconds_to_send(lab, 6 * MIB)
    assert 2.4 <= seconds < 6


def test_loss_loses_some(lab: Lab) -> None:
    lab.link.set(loss=0.5)
    assert 2 <= len(ping(lab, 20)) <= 18


def test_impossible_settings_are_refused_and_change_nothing(lab: Lab) -> None:
    before = lab.link.get()
    with pytest.raises(InputError):
        lab.link.set(loss=1.5)
    with pytest.raises(InputError):
        lab.link.set(delay=-1.0)
    assert lab.link.get() == before
