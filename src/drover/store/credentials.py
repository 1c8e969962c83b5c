"""The credentials of sites, encrypted. They are for the place that its URI names: with another they are gone."""

from pathlib import Path

from drover.errors import InputError
from drover.model.credentials import Credentials
from drover.store.sites import SECRET, SiteStore
from drover.store.vault import Vault


class CredentialStore:
    """Each change is durable when the call returns."""

    def __init__(self, folder: Path | None = None) -> None:
        self._vault = Vault(folder)
        self._sites = SiteStore(folder)

    def put(self, site: str, credentials: Credentials) -> None:
        """Raises InputError if there is no such site, DroverError if they cannot be encrypted."""
        uri = self._sites.get(site).uri
        self._vault.put(SECRET + site, credentials.reveal(), about=uri)

    def remove(self, site: str) -> None:
        """Raises InputError if none are kept."""
        if not self._vault.remove(SECRET + site):
            raise InputError(f"no credentials of the site {site!r} are kept", remedy="there is nothing to remove")

    def of(self, uri: str) -> Credentials | None:
        """Those of the site with this URI, if there are any. Raises DroverError if they cannot be opened."""
        for site in self._sites.all():
            if site.uri == uri and (plain := self._vault.get(SECRET + site.name, about=uri)) is not None:
                return Credentials.from_plain(plain)
        return None

    def kept(self) -> set[str]:
        """The sites that have some."""
        return {name.removeprefix(SECRET) for name in self._vault.names(SECRET)}
