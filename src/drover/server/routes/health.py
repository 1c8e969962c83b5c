"""Whether the server lives and works, and its figures for Prometheus."""

from collections.abc import Iterable

from dbos import DBOS
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel

from drover import __version__
from drover.model.migration import State
from drover.server.access import Viewer
from drover.server.context import Context, Stores
from drover.server.problems import answers
from drover.store.plans import RunState
from drover.workflows.executor import servers

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: str
    version: str


@router.get("/healthz")
def healthz() -> Health:
    """The process answers."""
    return Health(status="alive", version=__version__)


@router.get("/readyz", responses={503: answers(500)[500]})
def readyz(stores: Stores) -> Health:
    """Its databases can be used: it takes work. 503 while they cannot."""
    stores.migrations.ping()
    DBOS.list_workflows(limit=1, load_input=False, load_output=False)
    return Health(status="ready", version=__version__)


@router.get(
    "/metrics",
    responses={**answers(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    response_class=Response,
)
def metrics(_: Viewer, stores: Stores) -> Response:
    """Migrations, runs and rates, as Prometheus reads them (`authorization` of its scrape_config: a viewer's token)."""
    registry = CollectorRegistry()
    registry.register(_Figures(stores))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Figures(Collector):
    def __init__(self, stores: Context) -> None:
        self._stores = stores

    def collect(self) -> Iterable[Metric]:
        states = GaugeMetricFamily("drover_migrations", "Migrations by state", labels=["state"])
        counts = self._stores.migrations.count()
        for state in State:
            states.add_metric([state], counts.get(state, 0))
        yield states
        runs = GaugeMetricFamily("drover_runs", "Runs by state", labels=["state"])
        counts = self._stores.runs.count()
        for run_state in RunState:
            runs.add_metric([run_state], counts.get(run_state, 0))
        yield runs
        yield GaugeMetricFamily("drover_servers", "Servers that share the database", value=servers(self._stores.folder))
        yield from self._progress()

    def _progress(self) -> Iterable[Metric]:
        labels = ["migration", "vm"]
        families = {
            "size": GaugeMetricFamily("drover_vdisk_bytes", "Size of all VDISKs", labels=labels),
            "done": GaugeMetricFamily("drover_done_bytes", "What need not travel any more", labels=labels),
            "sent": GaugeMetricFamily("drover_sent_bytes", "On the wire so far", labels=labels),
            "wire_rate": GaugeMetricFamily("drover_wire_bytes_per_second", "On the wire now", labels=labels),
            "vm_write_rate": GaugeMetricFamily("drover_vm_write_bytes_per_second", "Written by the VM", labels=labels),
            "predicted_downtime": GaugeMetricFamily("drover_predicted_downtime_seconds", "Cut over now", labels=labels),
        }  # fmt: skip
        for migration, body in self._stores.live.newest(self._stores.migrations.under_way()).items():
            for field, family in families.items():
                if body.get(field) is not None:
                    family.add_metric([migration, body["vm"]], body[field])
        yield from families.values()
