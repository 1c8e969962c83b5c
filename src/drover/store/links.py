"""What was measured of links, over time."""

from pathlib import Path

import sqlalchemy as sa

from drover.model.observation import LinkObservation
from drover.store.database import WHOLE, Database, metadata

_links = sa.Table(
    "link_observations",
    metadata,
    sa.Column("number", WHOLE, primary_key=True),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("destination", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("observation", sa.JSON, nullable=False),
    sa.Index("link_observations_by_link", "source", "destination", "at"),
)


class LinkStore:
    """Every observation of a link. Each write is durable when the call returns. Raises DroverError."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = Database(folder)
        self.folder = self._database.folder

    def add(self, observation: LinkObservation) -> None:
        """Stores it beside the earlier ones of the same link."""
        row = observation.model_dump(include={"source", "destination", "at"})
        with self._database.transaction() as db:
            db.execute(_links.insert().values(**row, observation=observation.model_dump(mode="json")))

    def latest(self, source: str, destination: str) -> LinkObservation | None:
        """The newest observation of the link from `source` to `destination`."""
        query = self._of(source, destination).order_by(_links.c.at.desc(), _links.c.number.desc()).limit(1)
        with self._database.transaction() as db:
            row = db.execute(query).scalar_one_or_none()
        return None if row is None else LinkObservation.model_validate(row)

    def all(
        self, source: str | None = None, destination: str | None = None, since: float = 0.0
    ) -> list[LinkObservation]:
        """Those of the link, or of every link, that were made at `since` (Unix seconds) or later, oldest first."""
        query = self._of(source, destination).where(_links.c.at >= since).order_by(_links.c.at, _links.c.number)
        with self._database.transaction() as db:
            rows = db.execute(query).scalars().all()
        return [LinkObservation.model_validate(row) for row in rows]

    def _of(self, source: str | None, destination: str | None) -> sa.Select[tuple[object]]:
        ends = ((_links.c.source, source), (_links.c.destination, destination))
        return sa.select(_links.c.observation).where(*(column == uri for column, uri in ends if uri is not None))
