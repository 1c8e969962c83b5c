"""What Drover remembers, in the administrator's data folder: migrations, groups, plans, devices, forecasts and more."""

from drover.store.answers import AnswerStore
from drover.store.credentials import CredentialStore
from drover.store.cutovers import CutoverStore
from drover.store.devices import DeviceStore
from drover.store.forecasts import ForecastStore
from drover.store.groups import GroupStore
from drover.store.links import LinkStore
from drover.store.live import LiveStore
from drover.store.migrations import MigrationStore
from drover.store.observations import ObservationStore
from drover.store.orders import OrderStore
from drover.store.plans import PlanStore, RunStore
from drover.store.sites import SiteStore
from drover.store.vault import Vault

__all__ = [
    "AnswerStore", "CredentialStore", "CutoverStore", "DeviceStore", "ForecastStore", "GroupStore", "LinkStore",
    "LiveStore", "MigrationStore", "ObservationStore", "OrderStore", "PlanStore", "RunStore", "SiteStore", "Vault",
]  # fmt: skip
