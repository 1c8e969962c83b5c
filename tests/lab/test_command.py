"""The verbs of `drover lab`, as typed."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from drover.errors import InputError
from drover.lab import Lab
from drover.lab.command import app, parse_share

from .conftest import SMALL


def typed(lab: Lab, *words: str, answer: str = "") -> str:
    """What a verb printed. Raises what the verb raised."""
    result = CliRunner().invoke(app, ["--folder", str(lab.folder), *words], input=answer, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_up_names_what_is_there_already(lab: Lab) -> None:
    said = typed(lab, "up", "--vms", "1", "--size", str(SMALL))
    assert "up already" in said
    assert "vm-1 made and started" in said
    assert "vm-1 is there already, running" in typed(lab, "up")
    typed(lab, "vm", "remove", "vm-1")


def test_status_for_programs(lab: Lab) -> None:
    described = json.loads(typed(lab, "status", "--json"))
    alpha, beta = described["sites"]
    assert (alpha["state"], beta["state"], described["link"]["state"]) == ("up", "up", "up")
    assert alpha["uri"] == lab.site("alpha").uri
    assert alpha["vms"][0]["name"] == "cow"
    assert {pool["name"] for pool in beta["pools"]} == {"raw", "qcow2"}


def test_status_for_people(lab: Lab) -> None:
    said = typed(lab, "status")
    assert "cow" in said
    assert "link:" in said


def test_link_is_set_in_the_units_of_people(lab: Lab) -> None:
    said = typed(lab, "link", "--rate", "200mbit", "--delay", "40ms", "--jitter", "2ms", "--loss", "0.1%")
    assert "200 Mbit/s" in said
    settings = lab.link.get()
    assert (settings.rate, settings.delay, settings.jitter) == (25_000_000, 0.04, 0.002)
    assert settings.loss == pytest.approx(0.001)
    assert "cut" in typed(lab, "link", "--cut")
    assert "200 Mbit/s" in typed(lab, "link", "--heal")
    assert "no limit" in typed(lab, "link", "--rate", "none", "--delay", "0", "--jitter", "0", "--loss", "0")


def test_console_shows_where_the_vm_runs(lab: Lab) -> None:
    assert "GUEST up" in typed(lab, "console", "cow")
    with pytest.raises(InputError, match="no site has"):
        typed(lab, "console", "bull")


def test_enter_runs_a_command_at_a_site(lab: Lab) -> None:
    words = ["--folder", str(lab.folder), "enter", "beta", "--", "hostname"]
    code = f"from drover.lab.command import app; app({words!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "beta\n"


def test_check_waits_for_a_fresh_verdict(lab: Lab) -> None:
    assert "WITNESS OK" in typed(lab, "vm", "check", "cow")


def test_reset_asks_first(lab: Lab) -> None:
    result = CliRunner().invoke(app, ["--folder", str(lab.folder), "reset"], input="n\n")
    assert result.exit_code != 0
    assert lab.site("alpha").state("cow") == "running"


@pytest.mark.parametrize(("text", "share"), [("0.1%", 0.001), ("0.25", 0.25), ("0", 0.0), ("100%", 1.0)])
def test_share(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "2", "-1%", "many", "nan"])
def test_no_share(text: str) -> None:
    with pytest.raises(InputError):
        parse_share(text)
