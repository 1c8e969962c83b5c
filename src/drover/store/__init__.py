"""What Drover remembers, in the administrator's data folder: migrations, groups, plans, devices, forecasts and more."""

from drover.store.devices import DeviceStore
from drover.store.forecasts import ForecastStore
from drover.store.groups import GroupStore
from drover.store.inventory import InventoryStore
from drover.store.links import LinkStore
from drover.store.live import LiveStore
from drover.store.migrations import MigrationStore
from drover.store.observations import ObservationStore
from drover.store.plans import PlanStore, RunStore
from drover.store.sites import SiteStore

__all__ = [
    "DeviceStore", "ForecastStore", "GroupStore", "InventoryStore", "LinkStore", "LiveStore", "MigrationStore",
    "ObservationStore", "PlanStore", "RunStore", "SiteStore",
]  # fmt: skip
