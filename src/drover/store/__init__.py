"""Where migrations are remembered: SQLite in the administrator's data folder."""

from drover.store.migrations import MigrationStore

__all__ = ["MigrationStore"]
