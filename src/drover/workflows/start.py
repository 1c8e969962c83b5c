"""Having runs carried out: each is a workflow of the same id, so that it is enqueued once however often it is asked."""

from dbos import DBOS, SetWorkflowID

from drover.store import RunStore
from drover.workflows.carry import carry
from drover.workflows.durable import QUEUE
from drover.workflows.order import HEARD


def enqueue(run_id: str) -> None:
    """A run that is recorded; it begins when a server has room for it."""
    with SetWorkflowID(run_id):
        DBOS.enqueue_workflow(QUEUE, carry, run_id)


def enqueue_waiting(runs: RunStore) -> None:
    """Those that were recorded by a server that died before it enqueued them."""
    for run_id in runs.waiting():
        enqueue(run_id)


def plan_changed(run_id: str) -> None:
    """Has a run look at the newest version of its plan now, if it goes on."""
    DBOS.send(run_id, {"changed": True}, HEARD)
