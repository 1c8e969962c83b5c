"""What could not be read is remembered over engines that were started anew, and forgotten only when it was read."""

from types import SimpleNamespace
from typing import Any

from drover.engine.status import EngineStatus
from drover.model.migration import Facts, Place, Unreadable
from drover.replicator.replicate import note_unreadable

_ONE = Unreadable(bytes=512, places=1, first=[Place(offset=4096, length=512)])
_SIZE = 1 << 20


class _Run(SimpleNamespace):
    facts: Facts

    def say(self, text: str) -> None:
        self.said.append(text)

    def save(self) -> None:
        self.saved += 1


def _run() -> Any:
    return _Run(facts=Facts(), vdisk_names=["vda"], said=[], saved=0)


def _status(unreadable: Unreadable, *, verified: int) -> EngineStatus:
    vdisk = {
        "size": _SIZE, "state": "clean", "unreadable": unreadable.model_dump(), "verify": {"verified_bytes": verified},
    }  # fmt: skip
    return EngineStatus.model_validate({"link": {"state": "up"}, "vdisks": {"vda": vdisk}})


def test_it_is_said_once_and_saved() -> None:
    run = _run()
    for _ in range(3):
        note_unreadable(run, _status(_ONE, verified=0))
    assert run.facts.unreadable == {"vda": _ONE}
    assert len(run.said) == run.saved == 1
    assert "512 bytes in 1 place, the first at offset 4096" in run.said[0]


def test_an_engine_started_anew_does_not_make_it_forgotten() -> None:
    run = _run()
    note_unreadable(run, _status(_ONE, verified=_SIZE))
    note_unreadable(run, _status(Unreadable(), verified=_SIZE - 1))
    assert run.facts.unreadable == {"vda": _ONE}


def test_what_was_read_at_last_is_forgotten() -> None:
    run = _run()
    note_unreadable(run, _status(_ONE, verified=0))
    note_unreadable(run, _status(Unreadable(), verified=_SIZE))
    assert run.facts.unreadable == {}
    assert "everything could be read" in run.said[-1]
