"""Which platform watches a URI."""

import secrets

from drover.errors import DroverError
from drover.model.inventory import Watched
from drover.platforms.libvirt.watching import LibvirtWatched
from drover.platforms.simulated import SimulatedWatched, is_simulated
from drover.store import InventoryStore
from drover.store.database import data_folder
from drover.store.sites import Site

_LOOKING = 600.0
"""Seconds that one list of everything may take."""


def watch(uri: str) -> Watched:
    """Begins to listen to a site. May block while the site does not answer. Raises DroverError."""
    if is_simulated(uri):
        return SimulatedWatched(uri, data_folder())
    return LibvirtWatched(uri)


def look(store: InventoryStore, site: Site) -> DroverError | None:
    """Lists a site once, unless a server watches it at this time; what went wrong, if it does not answer."""
    holder = f"look-{secrets.token_hex(4)}"
    if not store.take(site.name, site.uri, holder, _LOOKING):
        return None
    try:
        watched = watch(site.uri)
        try:
            store.replace(site.name, holder, watched.everything())
        finally:
            watched.close()
    except DroverError as error:
        kept = store.sites()[site.name]
        store.lost(site.name, holder, kept.gone_since or kept.expires_at - _LOOKING, error.message)
        return error
    finally:
        store.let_go(site.name, holder)
    return None
