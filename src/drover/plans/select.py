"""Which VMs the words of a plan mean: names, UUIDs, patterns, tags, folders, titles, descriptions. No I/O."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from drover.errors import InputError
from drover.model.vm import UNLABELLED, Labels

KINDS = ("tag", "folder", "title", "description")
"""What may stand before a colon in a word."""
_SHOWN = 12
_MARKS = "*?["


class Named(Protocol):
    """What a plan names. If it has `labels`, words may mean these."""

    @property
    def name(self) -> str: ...

    @property
    def uuid(self) -> str: ...


_Vm = TypeVar("_Vm", bound=Named)


def asks_for_labels(words: Iterable[str]) -> bool:
    """Whether one of these words may mean something else than names and UUIDs."""
    return any(_split(word) is not None for word in words)


def select(words: Iterable[str], vms: Sequence[_Vm], where: str, but_for: Iterable[str] = ()) -> list[_Vm]:
    """The VMs that words mean and `but_for` does not, each once, in the order of the words.

    `where` is what the VMs were looked for in. Raises InputError for a word that means none, for a name in `but_for`
    that none of them has, and if none is left.
    """
    chosen: dict[str, _Vm] = {}
    for word in words:
        found = _meant(word, vms)
        if not found:
            raise _nothing(word, vms, where)
        chosen |= {vm.uuid: vm for vm in found}
    return without(but_for, list(chosen.values()), where)


def without(words: Iterable[str], chosen: Sequence[_Vm], where: str) -> list[_Vm]:
    """Those of these VMs that no word means.

    A name has to be that of one of them, so that it is not misspelt; patterns and labels may mean none.
    """
    taken: set[str] = set()
    for word in words:
        found = _meant(word, chosen)
        if not found and _split(word) is None and not any(mark in word for mark in _MARKS):
            raise InputError(
                f"{word!r} is to be left out, and it is not one of the VMs of {where}",
                remedy=f"correct it or take it out; they are {_names(chosen)}",
            )
        taken.update(vm.uuid for vm in found)
    left = [vm for vm in chosen if vm.uuid not in taken]
    if chosen and not left:
        raise InputError(f"every VM of {where} is left out", remedy="take something out of `except`")
    return left


def _meant(word: str, vms: Sequence[_Vm]) -> list[_Vm]:
    # A VM of just this name or UUID, whatever else the word would mean.
    if exact := [vm for vm in vms if word in (vm.name, vm.uuid)]:
        return exact
    label = _split(word)
    if label is None:
        return [vm for vm in vms if fnmatchcase(vm.name, word)]
    return [vm for vm in vms if _has(_labels(vm), *label)]


def _split(word: str) -> tuple[str, str] | None:
    kind, colon, pattern = word.partition(":")
    return (kind, pattern) if colon and kind in KINDS and pattern else None


def _has(labels: Labels, kind: str, pattern: str) -> bool:
    if kind == "tag":
        return any(fnmatchcase(tag, pattern) for tag in labels.tags)
    if kind == "folder":
        # A folder with all that is in it.
        path, wanted = _path(labels.folder), _path(pattern)
        return bool(labels.folder) and (fnmatchcase(path, wanted) or fnmatchcase(path, wanted.rstrip("/") + "/*"))
    said = labels.title if kind == "title" else labels.description
    return bool(said) and fnmatchcase(said, pattern)


def _path(folder: str) -> str:
    return "/" + folder.strip("/")


def _labels(vm: Named) -> Labels:
    labels: Labels = getattr(vm, "labels", UNLABELLED)
    return labels


def _nothing(word: str, vms: Sequence[Named], where: str) -> InputError:
    label = _split(word)
    if label is None:
        kind = "pattern" if any(mark in word for mark in _MARKS) else "VM"
        there = f"there are {_names(vms)}" if vms else "there are no VMs"
        return InputError(
            f"the {kind} {word!r} means no VM of {where}",
            remedy=f"correct it or take it out; {there}" if vms else there,
        )
    kind, pattern = label
    known = sorted({one for vm in vms for one in _all(_labels(vm), kind)})
    shown = ", ".join(known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
    remedy = f"correct it or take it out; there are {shown}" if known else f"none of them has a {kind}"
    return InputError(f"the {kind} {pattern!r} means no VM of {where}", remedy=remedy)


def _all(labels: Labels, kind: str) -> Sequence[str]:
    if kind == "tag":
        return labels.tags
    said: str = getattr(labels, kind)
    return [said] if said else []


def _names(vms: Sequence[Named]) -> str:
    return ", ".join([vm.name for vm in vms[:_SHOWN]]) + (", …" if len(vms) > _SHOWN else "")
