"""Where migrations and transport devices are remembered: SQLite in the administrator's data folder."""

from drover.store.devices import DeviceStore
from drover.store.migrations import MigrationStore

__all__ = ["DeviceStore", "MigrationStore"]
