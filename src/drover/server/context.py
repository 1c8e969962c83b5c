"""What every request needs: the stores of one data folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from fastapi import Depends, Request

from drover.accounts.accounts import Accounts
from drover.accounts.audit import Audit
from drover.store import (
    AnswerStore,
    CredentialStore,
    GroupStore,
    LiveStore,
    MigrationStore,
    OrderStore,
    PlanStore,
    RunStore,
    SiteStore,
)


@dataclass(frozen=True, kw_only=True)
class Context:
    """The stores, which are safe to use from several threads."""

    folder: Path
    accounts: Accounts
    audit: Audit
    migrations: MigrationStore
    groups: GroupStore
    plans: PlanStore
    orders: OrderStore
    runs: RunStore
    sites: SiteStore
    credentials: CredentialStore
    live: LiveStore
    answers: AnswerStore

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises DroverError if the database cannot be used."""
        return cls(
            folder=folder,
            accounts=Accounts(folder),
            audit=Audit(folder),
            migrations=MigrationStore(folder),
            groups=GroupStore(folder),
            plans=PlanStore(folder),
            orders=OrderStore(folder),
            runs=RunStore(folder),
            sites=SiteStore(folder),
            credentials=CredentialStore(folder),
            live=LiveStore(folder),
            answers=AnswerStore(folder),
        )


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Stores = Annotated[Context, Depends(_context)]
