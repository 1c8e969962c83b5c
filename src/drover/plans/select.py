"""Which VMs the words of a plan mean: names, UUIDs, patterns. No I/O."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from drover.errors import InputError

_SHOWN = 12


class Named(Protocol):
    """What a plan names."""

    @property
    def name(self) -> str: ...

    @property
    def uuid(self) -> str: ...


_Vm = TypeVar("_Vm", bound=Named)


def select(words: Iterable[str], vms: Sequence[_Vm], where: str) -> list[_Vm]:
    """The VMs that names, UUIDs or patterns mean, each once, in the order of the words.

    `where` is what the VMs were looked for in. Raises InputError for a word that means none.
    """
    chosen: dict[str, _Vm] = {}
    for word in words:
        # A VM of just this name or UUID, whatever else the word would match as a pattern.
        found = [vm for vm in vms if word in (vm.name, vm.uuid)] or [vm for vm in vms if fnmatchcase(vm.name, word)]
        if not found:
            kind = "pattern" if any(mark in word for mark in "*?[") else "VM"
            names = ", ".join([vm.name for vm in vms[:_SHOWN]]) + (", …" if len(vms) > _SHOWN else "")
            raise InputError(
                f"the {kind} {word!r} means no VM of {where}",
                remedy=f"correct it or take it out; there are {names}" if vms else "there are no VMs",
            )
        chosen |= {vm.uuid: vm for vm in found}
    return list(chosen.values())
