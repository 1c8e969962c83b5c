"""Looks at the world, puts what must be told into the outbox, and sends what is due."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from drover.alerts import email, webhook
from drover.alerts.conditions import Approval, World, conditions, epilogue
from drover.alerts.config import Config, Event, Receiver, Rule
from drover.alerts.message import DeliveryError, Message, Receipt
from drover.alerts.outbox import LEASE, Open, Outbox
from drover.alerts.summary import summarise
from drover.model.units import format_duration
from drover.store import GroupStore, LiveStore, MigrationStore

_PATIENCE = LEASE / 2
"""Seconds for one message: over before another server may take it."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try to deliver a message, and how it ended: with a receipt or an error."""

    message: Message
    receipt: Receipt | None
    error: DeliveryError | None


class Watcher:
    """Alerts of one data folder. Any number of them, in any processes, may watch the same one.

    Both methods block and belong into a thread without an event loop. They raise DroverError if the database fails.
    """

    def __init__(self, folder: Path | None, config: Config) -> None:
        self._config = config
        self._outbox = Outbox(folder)
        self._migrations = MigrationStore(folder)
        self._groups = GroupStore(folder)

    def look(
        self,
        now: float,
        *,
        progress: Mapping[str, Mapping[str, Any]] | None = None,
        unreachable: Mapping[str, float] | None = None,
        approvals: Sequence[Approval] | None = None,
    ) -> None:
        """Puts what the rules ask for into the outbox. `now` is Unix seconds.

        `progress`: of the migrations that run, as `Progress.as_json` gives it, by migration. `unreachable`: hosts that
        do not answer, and since when. What is None is not known: it raises nothing, and ends nothing.
        """
        world = World(
            migrations=self._migrations.all(),
            groups=self._groups.all(),
            progress=progress,
            unreachable=unreachable,
            approvals=approvals,
        )
        holding = self._note(world, now)
        raised = self._outbox.raised({condition.opening for condition in holding})
        for rule in self._config.rules:
            if rule.on is Event.DAILY_SUMMARY:
                self._summarise(rule, world, holding, now)
                continue
            for condition in holding:
                if condition.event is not rule.on or now - condition.since < rule.seconds:
                    continue
                untold = [to for to in rule.to if (condition.opening, rule.name, to) not in raised]
                if untold:
                    self._outbox.raise_(condition, rule.name, untold, now)

    def deliver(self, now: float) -> list[Attempt]:
        """Sends what is due, to all receivers at the same time. `now` is Unix seconds."""
        self._outbox.give_up(list(self._config.receivers), now)
        return asyncio.run(self._deliver(now - time.monotonic()))

    def _note(self, world: World, now: float) -> list[Open]:
        """Brings what the database knows to hold up to date."""
        known = {condition.key: condition for condition in self._outbox.holding()}
        found = {condition.key: condition for condition in conditions(world, now)}
        for key, condition in found.items():
            before = known.get(key)
            if before is None or (before.text, before.remedy, before.news) != (
                condition.text, condition.remedy, condition.news,
            ):  # fmt: skip
                self._outbox.open(condition, now)
        followed = {(condition.event, condition.subject) for condition in found.values()}
        for key, old in known.items():
            if key not in found and old.event in world.watched:
                quiet = old.news or (old.event, old.subject) in followed
                self._outbox.end(old, now, told=None if quiet else _ended(world, old, now))
        return self._outbox.holding()

    def _summarise(self, rule: Rule, world: World, holding: list[Open], now: float) -> None:
        local = time.localtime(now)
        if time.strftime("%H:%M", local) < (rule.at or ""):
            return
        day = time.strftime("%Y-%m-%d", local)
        for to in rule.to:
            if not self._outbox.summarised(rule.name, day, to):
                self._outbox.summarise(rule.name, day, to, summarise(world, holding, now), now)

    async def _deliver(self, offset: float) -> list[Attempt]:
        of_each = await asyncio.gather(
            *(self._to(name, receiver, offset) for name, receiver in self._config.receivers.items())
        )
        return [attempt for attempts in of_each for attempt in attempts]

    async def _to(self, name: str, receiver: Receiver, offset: float) -> list[Attempt]:
        """What is due to one receiver, in order; the rest waits when the receiver cannot be reached."""
        attempts: list[Attempt] = []
        for entry in self._outbox.due(name, offset + time.monotonic()):
            mine = self._outbox.claim(entry, offset + time.monotonic())
            if mine is None:
                continue
            try:
                receipt = await send(mine.message, receiver)
            except DeliveryError as error:
                self._outbox.failed(mine, error, offset + time.monotonic())
                attempts.append(Attempt(message=mine.message, receipt=None, error=error))
                if not error.final:
                    break
                continue
            self._outbox.sent(mine, receipt, offset + time.monotonic())
            attempts.append(Attempt(message=mine.message, receipt=receipt, error=None))
        return attempts


class Watched(TypedDict):
    """What `Watcher.look` is told of what runs."""

    progress: dict[str, dict[str, Any]]
    approvals: list[Approval]


def watched(folder: Path | None = None) -> Watched:
    """What the database knows of migrations that run and of groups that wait for somebody's leave."""
    waiting = [
        Approval(
            id=group.id,
            text=f"The group {group.name} of the plan {group.plan} waits for approval of its cutover.",
            since=since,
            remedy=f"`drover approve {group.id}`",
        )
        for group, since in GroupStore(folder).waiting_for_approval()
    ]
    running = MigrationStore(folder).under_way()
    return Watched(progress=LiveStore(folder).newest(running), approvals=waiting)


async def send(message: Message, receiver: Receiver) -> Receipt:
    """Hands a message to a receiver, whatever it is. Raises DeliveryError."""
    try:
        async with asyncio.timeout(_PATIENCE):
            if receiver.email is not None:
                return await email.send(message, receiver.email)
            assert receiver.webhook is not None
            return await webhook.send(message, receiver.webhook)
    except TimeoutError:
        raise DeliveryError(
            f"sending to {message.receiver} took longer than {format_duration(_PATIENCE)}",
            remedy="the other side is too slow; it is tried again",
        ) from None


def _ended(world: World, condition: Open, now: float) -> str:
    lasted = f"It holds no longer, after {format_duration(max(now - condition.since, 0.0))}."
    became = epilogue(world, condition.subject)
    return f"{lasted} {became}." if became else lasted
