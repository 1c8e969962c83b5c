"""The watcher over a real database and a real webhook: told once, recovered, tried again, given up; never twice."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from time import localtime, mktime
from typing import Any

import pytest

from drover.alerts.config import Config
from drover.alerts.outbox import GIVEN_UP, LEASE, Outbox
from drover.alerts.watcher import Watcher
from drover.model.group import Member
from drover.model.migration import Facts, Migration, Spec, State
from drover.store import GroupStore, MigrationStore
from tests.unit.alert_servers import Webhook

SECRET = "pl4nted-s3cret"
LOST = {"link": "down: cut", "at": 0.0}


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with Webhook() as served:
        yield served


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MigrationStore:
    """On both kinds of database for tests that use `data`."""
    return MigrationStore(request.getfixturevalue("data") if "data" in request.fixturenames else tmp_path)


def config(hook: Webhook, *rules: dict[str, Any]) -> Config:
    receiver = {"webhook": {"url": hook.origin, "secret_env": "HOOK_SECRET"}}
    told = [{"to": ["hook"], **rule} for rule in rules or ({"on": "failed"},)]
    return Config.model_validate({"version": 1, "receivers": {"hook": receiver}, "rules": told})


def add(store: MigrationStore, state: State = State.PREPARING, vm: str = "web-1") -> Migration:
    migration = store.add(Spec(vm=vm, source="a:///", destination="b:///"), Facts(token=1))
    store.enter(migration, State.PREPARING)
    if state is not State.PREPARING:
        store.enter(migration, state, reason="disk full")
    return migration


def told(hook: Webhook) -> list[tuple[str, str]]:
    bodies = [json.loads(post.body) for post in hook.posts]
    return [(body["kind"], body["title"]) for body in bodies]


FAILED = ("raised", "web-1: the migration failed")
OVER = ("recovered", "over: web-1: the migration failed")


@pytest.mark.usefixtures("data")
def test_told_once_and_when_it_is_over(hook: Webhook, store: MigrationStore) -> None:
    watcher, migration = Watcher(store.folder, config(hook)), add(store, State.FAILED)
    now = migration.updated_at
    for second in range(3):
        watcher.look(now + second)
        watcher.deliver(now + second)
    # Another process that starts anew has told it as well.
    Watcher(store.folder, config(hook)).look(now + 4)
    Watcher(store.folder, config(hook)).deliver(now + 4)
    assert told(hook) == [FAILED]
    store.enter(migration, State.PREPARING)
    watcher.look(now + 60)
    watcher.deliver(now + 60)
    watcher.deliver(now + 61)
    assert told(hook) == [FAILED, OVER]
    first, second_ = (json.loads(post.body) for post in hook.posts)
    assert second_["after"] == first["id"] and "is preparing" in second_["text"]
    assert second_["key"] == first["key"] == f"failed:{migration.id}:1"
    assert Outbox(store.folder).holding() == [] and Outbox(store.folder).undelivered() == []


def test_what_comes_again_is_told_again(hook: Webhook, store: MigrationStore) -> None:
    watcher, migration = Watcher(store.folder, config(hook, {"on": "link-lost", "for": "1m"})), add(store)
    now, lost, up = 1e9, {migration.id: LOST}, {migration.id: {"link": "up", "at": 0.0}}
    # Shorter than the rule says: not a word.
    for at, progress in ((0, lost), (50, lost), (55, up), (60, lost), (100, lost)):
        watcher.look(now + at, progress=progress)
    watcher.deliver(now + 100)
    assert told(hook) == []
    for at, progress in ((120, lost), (130, up), (140, lost), (200, lost)):
        watcher.look(now + at, progress=progress)
        watcher.deliver(now + at)
    assert [kind for kind, _ in told(hook)] == ["raised", "recovered", "raised"]


def test_who_does_not_know_ends_nothing(hook: Webhook, store: MigrationStore) -> None:
    rules = ({"on": "host-gone", "for": "0s"}, {"on": "link-lost", "for": "0s"})
    watcher, migration = Watcher(store.folder, config(hook, *rules)), add(store)
    watcher.look(1e9, progress={migration.id: LOST}, unreachable={"old": 1e9 - 5})
    watcher.look(1e9 + 1)
    assert {condition.key for condition in Outbox(store.folder).holding()} == {
        "host-gone:old",
        f"link-lost:{migration.id}",
    }
    watcher.look(1e9 + 2, progress={}, unreachable={})
    assert Outbox(store.folder).holding() == []


def test_a_second_failure_is_no_recovery_of_the_first(hook: Webhook, store: MigrationStore) -> None:
    watcher, migration = Watcher(store.folder, config(hook)), add(store, State.FAILED)
    watcher.look(migration.updated_at)
    store.enter(migration, State.PREPARING)
    migration.facts.token = 2
    store.enter(migration, State.FAILED, reason="again")
    watcher.look(migration.updated_at)
    for later in (1, 2):
        watcher.deliver(migration.updated_at + later)
    assert told(hook) == [FAILED, FAILED]


@pytest.mark.usefixtures("data")
def test_the_recovery_waits_for_what_it_ends(hook: Webhook, store: MigrationStore) -> None:
    watcher, migration = Watcher(store.folder, config(hook)), add(store, State.FAILED)
    now = migration.updated_at
    hook.answers.extend([(503, {}, b"")] * 2)
    watcher.look(now)
    watcher.deliver(now)
    store.enter(migration, State.PREPARING)
    watcher.look(now + 1)
    watcher.deliver(now + 2)
    assert told(hook) == [FAILED]
    watcher.deliver(now + 100)
    watcher.deliver(now + 1000)
    watcher.deliver(now + 1001)
    assert told(hook) == [FAILED, FAILED, FAILED, OVER]


@pytest.mark.usefixtures("data")
def test_what_fails_is_tried_again_later_and_later_and_given_up_after_a_day(
    hook: Webhook, store: MigrationStore
) -> None:
    watcher, migration = Watcher(store.folder, config(hook)), add(store, State.FAILED)
    outbox, now = Outbox(store.folder), migration.updated_at
    watcher.look(now)
    waits, at = [], now
    hook.answers.extend([(500, {}, f"no, {SECRET}".encode())] * 100)
    while True:
        assert [attempt.error is None for attempt in watcher.deliver(at)] == [False]
        (entry,) = outbox.undelivered()
        assert "answered 500" in str(entry.last_error) and entry.sent_at is None
        if entry.given_up_at is not None:
            break
        # Not a moment earlier; what a try takes counts as well.
        waits.append(entry.next_attempt_at - at)
        assert watcher.deliver(at + waits[-1] - 15) == []
        at += waits[-1] + 1
    nominal = [30.0 * 2**n for n in range(7)] + [3600.0] * (len(waits) - 7)
    assert all(wanted <= wait < wanted + 25 for wanted, wait in zip(nominal, waits, strict=True))
    assert GIVEN_UP - 3700 < at - now <= GIVEN_UP
    assert watcher.deliver(at + 10 * GIVEN_UP) == []
    assert len(hook.posts) == len(waits) + 1
    assert len({post.headers["drover-delivery"] for post in hook.posts}) == 1


def test_the_receiver_says_when(hook: Webhook, store: MigrationStore) -> None:
    watcher, migration = Watcher(store.folder, config(hook)), add(store, State.FAILED)
    now = migration.updated_at
    hook.answers.append((429, {"Retry-After": "600"}, b""))
    watcher.look(now)
    watcher.deliver(now)
    assert watcher.deliver(now + 500) == []
    assert len(watcher.deliver(now + 630)) == 1 and len(hook.posts) == 2


def test_what_is_refused_for_good_is_not_tried_again(hook: Webhook, store: MigrationStore) -> None:
    watcher, migration = Watcher(store.folder, config(hook)), add(store, State.FAILED)
    hook.answers.append((410, {}, b""))
    watcher.look(migration.updated_at)
    watcher.deliver(migration.updated_at)
    assert watcher.deliver(migration.updated_at + 7200) == []
    (entry,) = Outbox(store.folder).undelivered()
    assert entry.given_up_at is not None and "check the URL" in str(entry.last_error)


def test_a_claim_of_who_died_is_over_with_its_lease(hook: Webhook, store: MigrationStore) -> None:
    watcher, migration = Watcher(store.folder, config(hook)), add(store, State.FAILED)
    outbox, now = Outbox(store.folder), migration.updated_at
    watcher.look(now)
    (entry,) = outbox.due("hook", now)
    assert outbox.claim(entry, now) is not None
    assert outbox.claim(entry, now) is None
    assert watcher.deliver(now + LEASE / 2) == []
    assert len(watcher.deliver(now + LEASE + 1)) == 1


@pytest.mark.usefixtures("data")
def test_two_watchers_tell_once(hook: Webhook, store: MigrationStore) -> None:
    migrations = [add(store, State.FAILED, f"vm-{number}") for number in range(4)]
    now = max(migration.updated_at for migration in migrations)
    start, wrong = threading.Barrier(3), []

    def watch() -> None:
        try:
            watcher = Watcher(store.folder, config(hook))
            start.wait(30)
            for second in range(4):
                watcher.look(now + second)
                watcher.deliver(now + second)
        except BaseException as error:
            wrong.append(error)
            raise

    threads = [threading.Thread(target=watch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert sorted(title for _, title in told(hook)) == [f"vm-{number}: the migration failed" for number in range(4)]
    for migration in migrations:
        store.enter(migration, State.PREPARING)
    start = threading.Barrier(3)
    threads = [threading.Thread(target=watch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert [kind for kind, _ in told(hook)] == ["raised"] * 4 + ["recovered"] * 4


def test_a_group_that_is_done_is_told_once_and_never_over(hook: Webhook, store: MigrationStore) -> None:
    watcher, migration = Watcher(store.folder, config(hook, {"on": "group-done"})), add(store)
    GroupStore(store.folder).add("move", "shop", [Member(migration=migration.id, vm="web-1")])
    watcher.look(migration.updated_at)
    for state in (State.STARTING, State.FINISHED):
        store.enter(migration, state)
    for later in (0, 5, 2 * GIVEN_UP):
        watcher.look(migration.updated_at + later)
        watcher.deliver(migration.updated_at + later)
    assert told(hook) == [("raised", "group shop of the plan move is done")]


@pytest.mark.usefixtures("data")
def test_the_summary_comes_once_a_day(hook: Webhook, store: MigrationStore) -> None:
    watcher = Watcher(store.folder, config(hook, {"on": "daily-summary", "at": "07:00"}))
    add(store)
    for day, hour in ((1, 6), (1, 7), (1, 8), (1, 23), (2, 1), (2, 12)):
        at = mktime((2026, 6, day, hour, 30, 0, 0, 0, -1))
        assert localtime(at).tm_hour == hour
        watcher.look(at)
        watcher.deliver(at)
        assert len(hook.posts) == {(1, 6): 0, (2, 12): 2}.get((day, hour), 1)
    assert {kind for kind, _ in told(hook)} == {"summary"}


def test_one_receiver_that_is_down_holds_up_no_other(store: MigrationStore) -> None:
    with Webhook() as down:
        pass
    with Webhook() as hook:
        both = config(hook).model_dump(by_alias=True)
        both["receivers"]["down"] = {"webhook": {"url": down.origin, "secret_env": "HOOK_SECRET"}}
        both["rules"] = [{"on": "failed", "to": ["down", "hook"]}]
        watcher, migration = Watcher(store.folder, Config.model_validate(both)), add(store, State.FAILED)
        watcher.look(migration.updated_at)
        attempts = watcher.deliver(migration.updated_at)
    assert {attempt.message.receiver: attempt.error is None for attempt in attempts} == {"down": False, "hook": True}
    # The receiver is taken out of the configuration: what is for it ends with its day.
    other = Watcher(store.folder, config(hook))
    other.deliver(migration.updated_at + GIVEN_UP + 1)
    (entry,) = Outbox(store.folder).undelivered()
    assert entry.given_up_at is not None and "no such receiver" in str(entry.last_error)


def test_no_secret_is_in_the_database(hook: Webhook, store: MigrationStore) -> None:
    watcher, migration = Watcher(store.folder, config(hook)), add(store, State.FAILED)
    hook.answers.append((500, {}, f"you sent {SECRET}".encode()))
    watcher.look(migration.updated_at)
    watcher.deliver(migration.updated_at)
    files = [path for path in store.folder.iterdir() if path.is_file()]
    assert any(b"you sent \xe2\x80\xa6" in path.read_bytes() for path in files)
    assert not any(SECRET.encode() in path.read_bytes() for path in files)
