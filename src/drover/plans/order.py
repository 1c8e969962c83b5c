"""Which batches may begin now. No I/O."""

from collections.abc import Collection, Sequence, Set
from typing import Protocol, TypeVar


class Waiting(Protocol):
    """What of a batch matters for its turn."""

    @property
    def name(self) -> str: ...

    @property
    def members(self) -> Collection[object]: ...

    @property
    def after(self) -> Collection[str]: ...


_Batch = TypeVar("_Batch", bound=Waiting)


def startable(
    batches: Sequence[_Batch], begun: Set[str], finished: Set[str], running: int, at_once: int
) -> list[_Batch]:
    """The batches that may begin now, in the order of the plan.

    A batch begins when those it comes after have finished, and as a whole: only if its VMs fit into `at_once` beside
    the `running` ones, or if nothing else runs. One that waits for room only is overtaken by none, so that large ones
    do not wait forever.
    """
    chosen: list[_Batch] = []
    for batch in batches:
        if batch.name in begun or batch.name in finished or not finished >= set(batch.after):
            continue
        if running and running + len(batch.members) > at_once:
            break
        chosen.append(batch)
        running += len(batch.members)
    return chosen
