"""What leads back to the source, and what never does, whatever stops a cutover."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drover.errors import MigrationError
from drover.model.migration import Cutover, CutoverFacts
from drover.replicator import migrate
from drover.replicator.undisturbed import undisturbed


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways that were taken; the VM has no process at the source."""
    taken: list[str] = []
    monkeypatch.setattr(migrate, "turn_back", lambda _: taken.append("started at the source"))
    monkeypatch.setattr(migrate, "give_back", lambda _: taken.append("runs on"))
    monkeypatch.setattr(migrate, "is_running", lambda _: False)
    return taken


def back(taken: list[str], **facts: Any) -> None:
    cutover = CutoverFacts(mode=Cutover.MANUAL, stopping_at=0, **facts) if facts else None
    barrier = SimpleNamespace(failed=lambda error: taken.append(f"told: {error}"))
    run: Any = SimpleNamespace(facts=SimpleNamespace(cutover=cutover), domain=None, barrier=barrier)
    migrate._back_at_the_source(run, MigrationError("why"))


def test_before_the_source_is_off_the_vm_runs_on_and_after_that_it_is_started_again(ways: list[str]) -> None:
    back(ways)
    back(ways, source_off=False)
    back(ways, source_off=True)
    assert ways == ["runs on", "told: why", "runs on", "told: why", "started at the source", "told: why"]


def test_nothing_leads_back_once_the_destination_has_the_vm(ways: list[str]) -> None:
    """Not even if it is shut off there now: the administrator may have run it in between."""
    back(ways, source_off=True, handed_over=True)
    back(ways, source_off=True, handed_over=True, started_at=1.0)
    assert ways == []


def test_the_group_hears_of_it_even_if_the_way_back_fails(ways: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise MigrationError("the source is gone, too")

    monkeypatch.setattr(migrate, "turn_back", broken)
    with pytest.raises(MigrationError, match="too"):
        back(ways, source_off=True)
    assert ways == ["told: why"]


def test_ctrl_c_is_heard_when_the_step_is_over(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), undisturbed():
        signal.raise_signal(signal.SIGINT)
        (tmp_path / "done").touch()
    assert (tmp_path / "done").exists()
