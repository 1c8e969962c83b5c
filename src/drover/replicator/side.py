"""One side of a migration: the site's libvirt, the host behind it, and the engine's folder there."""

import libvirt

from drover.engine.client import EngineClient
from drover.engine.launcher import EngineHome
from drover.platforms.libvirt.connection import open_uri
from drover.platforms.libvirt.host import Host, host_of

MEMORY = "memory"
"""Name under which a memory image travels, as if it were a VDISK."""


class Side:
    """`role` is `source` or `destination`. Opening raises InputError if the site cannot be reached."""

    def __init__(self, role: str, uri: str, migration: str) -> None:
        self.role = role
        self.uri = uri
        self.host: Host = host_of(uri)
        self.connection: libvirt.virConnect = open_uri(uri)
        self.home = EngineHome(self.host, migration, role)
        self._engine: EngineClient | None = None

    @property
    def engine(self) -> EngineClient:
        """The engine of this side; started if need be."""
        if self._engine is None:
            self._engine = self.home.start()
        return self._engine

    def drop_engine(self) -> None:
        """Forgets a client whose engine is gone; the next use starts another."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def close(self) -> None:
        self.drop_engine()
        self.host.close()
        self.connection.close()
