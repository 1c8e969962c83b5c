"""What an engine that reads a transport device tells whoever watches."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from drover.engine.status import DeviceStatus


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How far a device has been read: bytes, bytes/s, seconds; None where nothing is known yet."""

    device: str
    """Its label."""
    migration: str | None
    """None when the device is only verified."""
    read: int
    total: int
    rate: float
    time_left: float | None

    def as_json(self) -> dict[str, Any]:
        return {"event": "progress", **asdict(self)}


Observer = Callable[[Reading], None]


class Reader:
    """Makes the progress of one device from an engine's status."""

    def __init__(self, device: str, migration: str | None, observe: Observer) -> None:
        self._device = device
        self._migration = migration
        self._observe = observe
        self._began: tuple[float, int] | None = None

    def look(self, status: DeviceStatus) -> None:
        now = time.monotonic()
        if self._began is None or status.read_bytes < self._began[1]:
            self._began = now, status.read_bytes
        since, before = self._began
        rate = (status.read_bytes - before) / (now - since) if now > since else 0.0
        left = max(status.total_bytes - status.read_bytes, 0)
        self._observe(
            Reading(
                device=self._device,
                migration=self._migration,
                read=status.read_bytes,
                total=status.total_bytes,
                rate=rate,
                time_left=left / rate if rate > 0 else None,
            )
        )
