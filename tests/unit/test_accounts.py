"""Accounts on a real database: log-ins, lock-outs, sessions, tokens, and several servers at once."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher, extract_parameters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drover.accounts import AccessError, Accounts, Identity, LockedError, Role, Scope, credentials, passwords
from drover.accounts.attempts import FAILURES_OF_NAME, FAILURES_OF_SOURCE, LOCKED_FOR
from drover.accounts.credentials import SESSION_IDLE, SESSION_LIFE, USE_NOTED_EVERY
from drover.errors import DroverError, InputError
from drover.store.database import Database, metadata

HERE = "192.0.2.1"
PASSWORD = "correct horse battery"
OTHER = "incorrect donkey charger"


class Clock:
    """Unix seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Accounts:
    """With an administrator `root` and an operator `ann`; on both kinds of database for tests that ask for `data`."""
    folder = request.getfixturevalue("data") if "data" in request.fixturenames else tmp_path
    accounts = Accounts(folder, clock)
    accounts.add_user("root", Role.ADMINISTRATOR, password=PASSWORD)
    accounts.add_user("ann", Role.OPERATOR, Scope(plans=("web-*",)), password=PASSWORD)
    return accounts


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What is noted about the use of sessions and tokens."""
    noted: list[object] = []
    note = credentials.note_use
    monkeypatch.setattr(credentials, "note_use", lambda *args: (noted.append(args[1]), note(*args)))
    yield noted


def together(*calls: Callable[[], object]) -> list[object]:
    """What the calls, made at the same moment, return or raise."""
    ends: list[object] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(number: int) -> None:
        start.wait()
        try:
            ends[number] = calls[number]()
        except DroverError as error:
            ends[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return ends


def fail(accounts: Accounts, name: str, times: int, source: str = HERE) -> None:
    for _ in range(times):
        with pytest.raises(AccessError):
            accounts.log_in(name, OTHER, source=source)


# The first start


def test_the_first_start_makes_an_administrator_who_must_change_the_password(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    password = accounts.first_start()
    assert password is not None and accounts.first_start() is None
    secret, identity = accounts.log_in("admin", password, source=HERE)
    assert identity.role is Role.ADMINISTRATOR and identity.must_change_password
    accounts.change_password("admin", password, PASSWORD, keep=identity)
    assert not accounts.authenticate(secret).must_change_password
    assert not accounts.log_in("admin", PASSWORD, source=HERE)[1].must_change_password


def test_servers_that_start_at_once_make_one_administrator(data: Path) -> None:
    ends = together(*[lambda: Accounts(data).first_start()] * 4)
    made = [password for password in ends if isinstance(password, str)]
    assert len(made) == 1 and ends.count(None) == 3
    Accounts(data).log_in("admin", made[0], source=HERE)


# Passwords


@pytest.mark.parametrize("password", ["", "elevenchars", "x" * 1025, "Long-Enough-Name", "ｌｏｎｇ-enough-name"])
def test_passwords_that_are_refused(accounts: Accounts, password: str) -> None:
    with pytest.raises(InputError) as caught:
        accounts.add_user("long-enough-name", Role.VIEWER, password=password)
    assert caught.value.remedy and (not password or password not in str(caught.value))
    assert len(accounts.users()) == 2


def test_a_one_time_password_is_random_and_readable(accounts: Accounts) -> None:
    made = {accounts.reset_password("ann") for _ in range(20)}
    assert len(made) == 20
    letters = set("".join(made)) - {"-"}
    assert not letters & set("0O1lI") and all(len(password.replace("-", "")) >= 21 for password in made)


@settings(max_examples=25)
@given(password=st.text(min_size=1, max_size=40))
def test_a_password_is_verified_however_it_is_written(password: str) -> None:
    hashed = passwords.hash_password(password)
    assert passwords.verify_password(hashed, password)
    assert not passwords.verify_password(hashed, password + "x")
    assert not passwords.verify_password(None, password)


def test_one_letter_written_in_two_ways_is_one_password() -> None:
    assert passwords.verify_password(passwords.hash_password("Müller" * 2), "Mu\u0308ller" * 2)


@pytest.mark.parametrize("hashed", ["", "rubbish", "$argon2id$v=19$m=8,t=1,p=1$AAAA"])
def test_a_broken_hash_is_of_no_password(hashed: str) -> None:
    assert not passwords.verify_password(hashed, PASSWORD)


def test_an_old_hash_is_made_anew_at_log_in(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=2, memory_cost=8, parallelism=1))
    for expected in (True, False):
        hashed = accounts._get("ann")["password"]
        assert passwords.needs_rehash(hashed) is expected
        accounts.log_in("ann", PASSWORD, source=HERE)


# Log-in


def test_a_log_in_says_who_and_what_they_may(accounts: Accounts) -> None:
    secret, identity = accounts.log_in("ann", PASSWORD, source=HERE)
    assert secret.startswith("drover_s_") and len(secret) >= 9 + 43
    assert identity == accounts.authenticate(secret)
    assert identity == Identity("ann", Role.OPERATOR, Scope(plans=("web-*",)), "session", False, identity.credential)
    assert identity.credential not in secret


def test_wrong_name_wrong_password_and_disabled_say_the_same_after_the_same_work(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts.add_user("off", Role.VIEWER, password=PASSWORD)
    accounts.change_user("off", disabled=True)
    verified: list[tuple[int, int, int]] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:
            cost = extract_parameters(hash if isinstance(hash, str) else hash.decode())
            verified.append((cost.time_cost, cost.memory_cost, cost.hash_len))
            return super().verify(hash, password)

    monkeypatch.setattr(passwords, "_hasher", Counting(time_cost=1, memory_cost=8, parallelism=1))
    said = set()
    for name, password in (("ann", OTHER), ("nobody", OTHER), ("off", PASSWORD), ("a\0\ud800", OTHER), ("", OTHER)):
        with pytest.raises(AccessError) as caught:
            accounts.log_in(name, password, source=HERE)
        said.add(str(caught.value))
    assert len(said) == 1 and verified == [(1, 8, 32)] * 5


def test_a_name_is_locked_after_failures_in_a_row_known_or_not(accounts: Accounts, clock: Clock) -> None:
    for name in ("ann", "nobody"):
        fail(accounts, name, FAILURES_OF_NAME)
        clock.now += 60
        with pytest.raises(LockedError) as caught:
            accounts.log_in(name, PASSWORD, source=HERE)
        assert caught.value.seconds == LOCKED_FOR - 60 and "14 min" in str(caught.value.remedy)
    accounts.log_in("root", PASSWORD, source=HERE)
    clock.now += LOCKED_FOR
    accounts.log_in("ann", PASSWORD, source=HERE)


def test_a_success_ends_the_row_of_failures(accounts: Accounts) -> None:
    for _ in range(3):
        fail(accounts, "ann", FAILURES_OF_NAME - 1)
        accounts.log_in("ann", PASSWORD, source=HERE)


def test_an_address_is_locked_whatever_names_it_tries_and_whoever_logs_in_between(accounts: Accounts) -> None:
    for number in range(FAILURES_OF_SOURCE):
        fail(accounts, f"nobody{number}", 1)
        if number < FAILURES_OF_SOURCE - 1:
            accounts.log_in("ann", PASSWORD, source=HERE)
    with pytest.raises(LockedError):
        accounts.log_in("ann", PASSWORD, source=HERE)
    accounts.log_in("ann", PASSWORD, source="192.0.2.2")


def test_guesses_made_at_once_through_several_servers_are_counted_each(
    accounts: Accounts, data: Path, clock: Clock
) -> None:
    servers = [Accounts(data, clock) for _ in range(8)]
    ends = together(*(lambda s=server: s.log_in("ann", OTHER, source=HERE) for server in servers))
    assert sum(isinstance(end, AccessError) for end in ends) == FAILURES_OF_NAME
    assert sum(isinstance(end, LockedError) for end in ends) == 8 - FAILURES_OF_NAME
    with pytest.raises(LockedError):
        accounts.log_in("ann", PASSWORD, source=HERE)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tries=st.lists(st.tuples(st.booleans(), st.sampled_from([1.0, 400.0, LOCKED_FOR])), max_size=12))
def test_the_lock_is_as_the_rule_says(
    tmp_path_factory: pytest.TempPathFactory, tries: list[tuple[bool, float]]
) -> None:
    clock = Clock()
    accounts = Accounts(tmp_path_factory.mktemp("lock"), clock)
    accounts.add_user("ann", Role.VIEWER, password=PASSWORD)
    failures, last = 0, clock.now
    for right, later in tries:
        clock.now += later
        failures = 0 if clock.now - last >= LOCKED_FOR else failures
        try:
            accounts.log_in("ann", PASSWORD if right else OTHER, source=HERE)
            end = "in"
        except LockedError:
            end = "locked"
        except AccessError:
            end = "out"
        assert end == ("locked" if failures >= FAILURES_OF_NAME else "in" if right else "out")
        if end != "locked":
            failures, last = (0, last) if right else (failures + 1, clock.now)


# Sessions


def test_a_session_ends_when_it_is_not_used_and_after_half_a_day(accounts: Accounts, clock: Clock) -> None:
    unused, _ = accounts.log_in("ann", PASSWORD, source=HERE)
    used, _ = accounts.log_in("ann", PASSWORD, source=HERE)
    begun = clock.now
    clock.now += SESSION_IDLE - 1
    accounts.authenticate(used)
    clock.now += 1
    with pytest.raises(AccessError):
        accounts.authenticate(unused)
    while clock.now < begun + SESSION_LIFE - 1000:
        clock.now += 1000
        accounts.authenticate(used)
    clock.now = begun + SESSION_LIFE
    with pytest.raises(AccessError):
        accounts.authenticate(used)


def test_use_is_noted_once_a_minute(accounts: Accounts, clock: Clock, writes: list[object]) -> None:
    session, _ = accounts.log_in("ann", PASSWORD, source=HERE)
    token, made = accounts.add_token("ann", "ci", Role.VIEWER)
    for secret, expected in ((session, 1), (token, 2)):
        writes.clear()
        for _ in range(10):
            accounts.authenticate(secret)
            clock.now += USE_NOTED_EVERY / 5
        assert len(writes) == expected
    assert accounts.tokens("ann")[0].last_used_at == pytest.approx(clock.now, abs=2 * USE_NOTED_EVERY)
    assert made.last_used_at is None


def test_log_out_ends_one_session(accounts: Accounts) -> None:
    (one, identity), (two, _) = (accounts.log_in("ann", PASSWORD, source=HERE) for _ in range(2))
    accounts.log_out(identity)
    with pytest.raises(AccessError):
        accounts.authenticate(one)
    accounts.authenticate(two)


@pytest.mark.parametrize("secret", ["", "drover_s_", "drover_t_", "drover_s_\0", "drover_t_\ud800", "x" * 100_000])
def test_secrets_of_nobody(accounts: Accounts, secret: str) -> None:
    with pytest.raises(AccessError):
        accounts.authenticate(secret)


def test_a_changed_password_ends_the_other_sessions(accounts: Accounts) -> None:
    mine, identity = accounts.log_in("ann", PASSWORD, source=HERE)
    stolen, _ = accounts.log_in("ann", PASSWORD, source=HERE)
    root, _ = accounts.log_in("root", PASSWORD, source=HERE)
    accounts.change_password("ann", PASSWORD, OTHER, keep=identity)
    assert accounts.authenticate(mine).name == "ann" and accounts.authenticate(root).name == "root"
    with pytest.raises(AccessError):
        accounts.authenticate(stolen)
    with pytest.raises(AccessError):
        accounts.log_in("ann", PASSWORD, source=HERE)
    accounts.change_password("ann", OTHER, PASSWORD)
    with pytest.raises(AccessError):
        accounts.authenticate(mine)


def test_a_password_is_not_changed_to_a_bad_one_nor_without_the_old_one(accounts: Accounts) -> None:
    for new in ("short", PASSWORD):
        with pytest.raises(InputError):
            accounts.change_password("ann", PASSWORD, new)
    for _ in range(FAILURES_OF_NAME):
        with pytest.raises(AccessError):
            accounts.change_password("ann", OTHER, "something else")
    with pytest.raises(LockedError):
        accounts.change_password("ann", PASSWORD, "something else")


def test_a_reset_unlocks_and_ends_all_sessions(accounts: Accounts) -> None:
    secret, _ = accounts.log_in("ann", PASSWORD, source=HERE)
    fail(accounts, "ann", FAILURES_OF_NAME)
    password = accounts.reset_password("ann")
    with pytest.raises(AccessError):
        accounts.authenticate(secret)
    assert accounts.log_in("ann", password, source=HERE)[1].must_change_password
    with pytest.raises(InputError):
        accounts.reset_password("nobody")


def test_a_log_in_with_the_old_password_loses_against_a_reset_meanwhile(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = passwords.verify_password

    def slow(hashed: str | None, password: str) -> bool:
        right = verify(hashed, password)
        accounts.reset_password("ann")
        return right

    monkeypatch.setattr(passwords, "verify_password", slow)
    with pytest.raises(AccessError):
        accounts.log_in("ann", PASSWORD, source=HERE)


# Users


def test_users_are_added_changed_and_removed(accounts: Accounts) -> None:
    password = accounts.add_user("bob@example.com", Role.VIEWER)
    assert password is not None and accounts.user("bob@example.com").must_change_password
    accounts.log_in("bob@example.com", password, source=HERE)
    accounts.change_user("bob@example.com", role=Role.OPERATOR, scope=Scope(sites=("alpha",)))
    bob = accounts.user("bob@example.com")
    assert (bob.role, bob.scope, bob.disabled) == (Role.OPERATOR, Scope(sites=("alpha",)), False)
    assert [user.name for user in accounts.users()] == ["ann", "bob@example.com", "root"]
    accounts.remove_user("bob@example.com")
    for call in (accounts.user, accounts.remove_user, accounts.change_user):
        with pytest.raises(InputError):
            call("bob@example.com")


@pytest.mark.parametrize("name", ["", "Ann", "a b", "ann\n", "é", "-a", "a" * 65, "a\0", "ann"])
def test_names_that_are_refused(accounts: Accounts, name: str) -> None:
    with pytest.raises(InputError) as caught:
        accounts.add_user(name, Role.VIEWER)
    assert caught.value.remedy


def test_a_name_is_given_to_one_only(accounts: Accounts, data: Path) -> None:
    servers = [Accounts(data) for _ in range(4)]
    ends = together(*(lambda s=server: s.add_user("bob", Role.VIEWER) for server in servers))
    assert sum(isinstance(end, str) for end in ends) == 1 and sum(isinstance(end, InputError) for end in ends) == 3
    assert [user.name for user in accounts.users()] == ["ann", "bob", "root"]


def test_a_disabled_user_is_refused_at_once(accounts: Accounts) -> None:
    session, _ = accounts.log_in("ann", PASSWORD, source=HERE)
    token, _ = accounts.add_token("ann", "ci", Role.VIEWER)
    accounts.change_user("ann", disabled=True)
    for secret in (session, token):
        with pytest.raises(AccessError):
            accounts.authenticate(secret)
    accounts.change_user("ann", disabled=False)
    assert accounts.authenticate(token).name == "ann"
    with pytest.raises(AccessError):
        accounts.authenticate(session)


def test_who_takes_a_removed_users_name_takes_nothing_else(accounts: Accounts) -> None:
    session, _ = accounts.log_in("ann", PASSWORD, source=HERE)
    token, _ = accounts.add_token("ann", "ci", Role.OPERATOR)
    accounts.remove_user("ann")
    accounts.add_user("ann", Role.VIEWER)
    for secret in (session, token):
        with pytest.raises(AccessError):
            accounts.authenticate(secret)
    assert accounts.tokens() == []


def test_the_last_administrator_stays(accounts: Accounts) -> None:
    accounts.add_user("off", Role.ADMINISTRATOR, password=PASSWORD)
    accounts.change_user("off", disabled=True)
    before = accounts.user("root")
    for change in (
        lambda: accounts.remove_user("root"),
        lambda: accounts.change_user("root", disabled=True),
        lambda: accounts.change_user("root", role=Role.OPERATOR),
    ):
        with pytest.raises(InputError) as caught:
            change()
        assert caught.value.remedy and accounts.user("root") == before
    accounts.change_user("off", disabled=False)
    accounts.remove_user("root")


def test_two_administrators_cannot_remove_each_other_at_once(accounts: Accounts, data: Path) -> None:
    for turn in range(5):
        accounts.add_user(f"boss{turn}", Role.ADMINISTRATOR, password=PASSWORD)
        (one, two) = [user.name for user in accounts.users() if user.role is Role.ADMINISTRATOR]
        there, here = Accounts(data), Accounts(data)
        ends = together(lambda n=one, s=there: s.remove_user(n), lambda n=two, s=here: s.change_user(n, role="viewer"))
        assert sorted(type(end).__name__ for end in ends) == ["InputError", "NoneType"]


def test_an_administrators_scope_is_everything(accounts: Accounts) -> None:
    part = Scope(plans=("web-*",))
    for change in (
        lambda: accounts.add_user("bob", Role.ADMINISTRATOR, part),
        lambda: accounts.change_user("root", scope=part),
        lambda: accounts.change_user("ann", role=Role.ADMINISTRATOR),
        lambda: accounts.add_token("root", "ci", Role.ADMINISTRATOR, part),
    ):
        with pytest.raises(InputError):
            change()
    accounts.change_user("ann", role=Role.ADMINISTRATOR, scope=Scope())


# Tokens


def test_a_token_is_what_it_was_made_as(accounts: Accounts, clock: Clock) -> None:
    secret, token = accounts.add_token("root", "CI pipeline", Role.OPERATOR, Scope(sites=("alpha",)))
    assert secret.startswith("drover_t_") and token.expires_at == clock.now + 90 * 86400
    assert accounts.tokens() == accounts.tokens("root") == [token] and accounts.tokens("ann") == []
    identity = accounts.authenticate(secret)
    assert (identity.name, identity.role, identity.kind, identity.credential) == ("root", "operator", "token", token.id)
    assert identity.scope.allows_site("alpha") and not identity.scope.allows_site("beta")
    accounts.log_out(identity)
    assert accounts.authenticate(secret) == identity


def test_a_token_expires_or_not_and_can_be_revoked(accounts: Accounts, clock: Clock) -> None:
    short, _ = accounts.add_token("ann", "short", Role.VIEWER, expires_in=60)
    lasting, token = accounts.add_token("ann", "lasting", Role.VIEWER, expires_in=None)
    clock.now += 60
    with pytest.raises(AccessError):
        accounts.authenticate(short)
    clock.now += 1e9
    assert accounts.authenticate(lasting).credential == token.id
    accounts.revoke_token(token.id)
    with pytest.raises(AccessError):
        accounts.authenticate(lasting)
    with pytest.raises(InputError):
        accounts.revoke_token(token.id)


def test_a_token_is_never_more_than_its_user(accounts: Accounts) -> None:
    with pytest.raises(InputError) as caught:
        accounts.add_token("ann", "ci", Role.ADMINISTRATOR)
    assert "operator" in str(caught.value.remedy)
    secret, _ = accounts.add_token("ann", "ci", Role.OPERATOR, Scope(plans=("*-1",)))
    scope = accounts.authenticate(secret).scope
    assert scope.allows_plan("web-1") and not scope.allows_plan("db-1") and not scope.allows_plan("web-2")
    accounts.change_user("ann", role=Role.VIEWER, scope=Scope(plans=("db-*",)))
    identity = accounts.authenticate(secret)
    assert identity.role is Role.VIEWER
    assert identity.scope.allows_plan("db-1") and not identity.scope.allows_plan("web-1")


@pytest.mark.parametrize(
    ("user", "name", "expires_in"),
    [("nobody", "ci", 60), ("ann", "", 60), ("ann", " ", 60), ("ann", "a\0", 60), ("ann", "a" * 65, 60)]
    + [("ann", "ci", seconds) for seconds in (0, -1, float("nan"), float("inf"))],
)
def test_tokens_that_are_refused(accounts: Accounts, user: str, name: str, expires_in: float) -> None:
    with pytest.raises(InputError) as caught:
        accounts.add_token(user, name, Role.VIEWER, expires_in=expires_in)
    assert caught.value.remedy and accounts.tokens() == []


# Secrets


def test_no_secret_is_in_the_database_or_shown(accounts: Accounts, data: Path) -> None:
    one_time = accounts.add_user("bob", Role.VIEWER)
    assert one_time is not None
    session, identity = accounts.log_in("ann", PASSWORD, source=HERE)
    token, made = accounts.add_token("ann", "ci", Role.VIEWER)
    mistyped = "my-password-as-a-name"
    said = []
    for name, password in ((mistyped, "x"), ("ann", OTHER)):
        with pytest.raises(AccessError) as caught:
            accounts.log_in(name, password, source=HERE)
        said.append(repr(caught.value) + str(caught.value))
    reset = accounts.reset_password("bob")
    stored = b"".join(path.read_bytes() for path in data.iterdir())
    with Database(data).transaction() as db:
        for table in metadata.sorted_tables:
            stored += repr(db.execute(sa.select(table)).all()).encode()
    assert b"ann" in stored and b"argon2id" in stored
    shown = repr([identity, made, accounts.users(), accounts.tokens(), accounts.user("ann"), vars(accounts), said])
    for secret in (one_time, PASSWORD, OTHER, session, token, mistyped, reset):
        assert secret.encode() not in stored and secret not in shown
        assert secret.removeprefix("drover_s_").removeprefix("drover_t_").encode() not in stored


def test_databases_opened_at_once_are_made_once(tmp_path: Path) -> None:
    for turn in range(5):
        folder = tmp_path / str(turn)
        assert all(isinstance(end, Database) for end in together(*[lambda f=folder: Database(f)] * 4))
