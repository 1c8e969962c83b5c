"""A transport device as Drover remembers it, and what became of it in each migration that it was given to."""

import time
from enum import StrEnum

from pydantic import BaseModel, Field


class Use(StrEnum):
    """How far a device is on its way in one migration. The values are what the administrator reads."""

    PLANNED = "planned"
    LOADING = "loading"
    LOADED = "loaded"
    """Closed, with content that the destination does not have yet."""
    UNLOADED = "unloaded"
    """Nothing on it is needed any more."""
    LOST = "lost"

    @property
    def ended(self) -> bool:
        """Whether the migration expects nothing of the device any more."""
        return self in (Use.UNLOADED, Use.LOST)


class Device(BaseModel):
    """A transport device. Its key is never here: it is on the device, encrypted to the recipients. Unix seconds."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    label: str
    recipients: list[str] = []
    created_at: float = Field(default_factory=time.time)
    site: str | None = None
    """libvirt URI of the site on whose host it was last seen; None is the machine that Drover runs on."""
    path: str | None = None
    seen_at: float | None = None
    wiped: bool = False
    uses: dict[str, Use] = {}
    """By migration, those that have ended too."""
