"""A device's key opens with the identities it was encrypted to and no others, and what is damaged is named."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drover.devices.keys import Identity, check_recipient, new_key, own_identity, read_identity, seal, unwrap
from drover.errors import DroverError, InputError

ONE = Identity("AGE-SECRET-KEY-1GHUDXKLWDL7LJ53EAA6SEPTTVJ9KCP338ZARALCHGPKY6NLJXG5QT30YTN")


def other(tmp_path: Path, name: str = "other") -> Identity:
    folder = tmp_path / name
    folder.mkdir()
    return own_identity(folder)


@given(st.binary(min_size=32, max_size=32))
def test_a_key_comes_back_as_it_was(key: bytes) -> None:
    assert unwrap(seal(key, [ONE.recipient]), ONE, what="stick") == key


def test_each_recipient_opens_it_and_nobody_else(tmp_path: Path) -> None:
    second, stranger = other(tmp_path), other(tmp_path, "stranger")
    key = new_key()
    sealed = seal(key, [ONE.recipient, second.recipient])
    assert unwrap(sealed, ONE, what="stick") == unwrap(sealed, second, what="stick") == key
    with pytest.raises(InputError, match="stick was not encrypted to age1") as refused:
        unwrap(sealed, stranger, what="stick")
    assert "--identity" in str(refused.value)


SEALED = seal(b"k" * 32, [ONE.recipient])


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_a_damaged_key_file_never_yields_another_key(at: int, flip: int) -> None:
    damaged = bytearray(SEALED)
    damaged[at] ^= flip
    with pytest.raises(InputError, match="stick"):
        unwrap(bytes(damaged), ONE, what="stick")


@given(st.integers(0, len(SEALED) - 1))
def test_a_key_file_that_was_cut_is_named(length: int) -> None:
    with pytest.raises(InputError, match="stick"):
        unwrap(SEALED[:length], ONE, what="stick")


def test_something_else_than_a_key_is_refused() -> None:
    with pytest.raises(InputError, match="5 bytes"):
        unwrap(seal(b"hello", [ONE.recipient]), ONE, what="stick")


def test_the_identity_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    first = own_identity(tmp_path)
    assert own_identity(tmp_path).recipient == first.recipient
    assert stat.S_IMODE((tmp_path / "identity.age-key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["identity.age-key"]


@pytest.mark.parametrize("text", ["", "age1nothing", "AGE-SECRET-KEY-1NONSENSE", "\0\xff"])
def test_a_file_without_an_identity_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "id"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="id"):
        read_identity(path)


def test_an_identity_that_is_missing_or_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        read_identity(tmp_path / "gone")
    with pytest.raises(DroverError, match=r"identity\.age-key"):
        own_identity(tmp_path / "gone")


@pytest.mark.parametrize("text", ["", "age1", "ssh-ed25519 AAAA", "AGE-SECRET-KEY-1X"])
def test_what_is_no_recipient_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="age recipient"):
        check_recipient(text)
