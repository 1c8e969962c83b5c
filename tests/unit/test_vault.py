"""Secrets at rest: nothing of them in the database, bound to their names, and no death of a rotation loses one."""

import os
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa

from drover import private_file
from drover.errors import DroverError, InputError
from drover.model.credentials import Credentials
from drover.store import CredentialStore, SiteStore, Vault
from drover.store.database import Database
from drover.store.sites import Site
from drover.store.vault import KEY_FILE

SECRET = b"pl4nted-s3cret"


def stored(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("drover.sqlite*"))


def test_what_is_kept_comes_back_and_the_database_shows_nothing(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.put("a", SECRET)
    vault.put("a", SECRET + b"2")
    vault.put("b", SECRET, about="here")
    assert Vault(tmp_path).get("a") == SECRET + b"2"
    assert Vault(tmp_path).get("b", about="here") == SECRET
    assert Vault(tmp_path).get("c") is None
    assert list(vault.names()) == ["a", "b"]
    assert SECRET not in stored(tmp_path)
    assert stat.S_IMODE((tmp_path / "vault.key").stat().st_mode) == 0o600
    assert vault.remove("a") and not vault.remove("a")


def test_a_secret_opens_for_what_it_belongs_to_alone(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.put("a", SECRET, about="here")
    with pytest.raises(DroverError, match="belongs to something else"):
        vault.get("a", about="there")
    with Database(tmp_path).transaction() as db:
        db.execute(sa.text("UPDATE secrets SET name = 'b'"))
    with pytest.raises(DroverError, match="belongs to something else") as told:
        vault.get("b", about="here")
    assert SECRET.decode() not in str(told.value)


@pytest.mark.parametrize("byte", [0, 12, -1])
def test_a_changed_byte_shows(tmp_path: Path, byte: int) -> None:
    vault = Vault(tmp_path)
    vault.put("a", SECRET)
    with Database(tmp_path).transaction() as db:
        sealed = bytearray(db.execute(sa.text("SELECT sealed FROM secrets")).scalar_one())
        sealed[byte] ^= 1
        db.execute(sa.text("UPDATE secrets SET sealed = :sealed"), {"sealed": bytes(sealed)})
    with pytest.raises(DroverError, match="damaged"):
        vault.get("a")


def test_a_key_that_is_gone_foreign_readable_or_nonsense_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault(tmp_path)
    vault.put("a", SECRET)
    vault.key_file.chmod(0o640)
    with pytest.raises(DroverError, match="others may read"):
        vault.get("a")
    vault.key_file.chmod(0o600)
    elsewhere = tmp_path / "elsewhere.key"
    monkeypatch.setenv(KEY_FILE, str(elsewhere))
    for ask in (lambda: Vault(tmp_path).get("a"), lambda: Vault(tmp_path).put("b", SECRET)):
        with pytest.raises(DroverError, match="is gone"):
            ask()
    private_file.make(elsewhere, "nonsense\n")
    with pytest.raises(DroverError, match="not a file of keys"):
        Vault(tmp_path).get("a")
    private_file.replace(elsewhere, "A" * 43 + "=\n")
    with pytest.raises(DroverError, match="another key"):
        Vault(tmp_path).get("a")
    monkeypatch.delenv(KEY_FILE)
    assert Vault(tmp_path).get("a") == SECRET


def test_rotation_seals_everything_anew_and_forgets_the_old_key(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.put("a", SECRET)
    vault.put("b", SECRET, about="here")
    old = vault.key_file.read_text()
    assert vault.rotate() == 2
    assert vault.get("a") == SECRET and vault.get("b", about="here") == SECRET
    assert stat.S_IMODE(vault.key_file.stat().st_mode) == 0o600
    new = vault.key_file.read_text()
    assert set(old.splitlines()[2:]).isdisjoint(new.splitlines()) and len(new.splitlines()) == 3
    private_file.replace(vault.key_file, old)
    with pytest.raises(DroverError, match="another key"):
        vault.get("a")


@pytest.mark.parametrize("writes", [1, 2])
def test_a_rotation_that_dies_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    vault = Vault(tmp_path)
    vault.put("a", SECRET)
    done, really = 0, private_file.replace

    def dying(path: Path, text: str) -> None:
        nonlocal done
        done += 1
        if done == writes:
            raise OSError(28, os.strerror(28))
        really(path, text)

    monkeypatch.setattr(private_file, "replace", dying)
    with pytest.raises(DroverError, match="cannot write the key"):
        vault.rotate()
    monkeypatch.undo()
    assert Vault(tmp_path).get("a") == SECRET
    assert Vault(tmp_path).rotate() == 1
    assert Vault(tmp_path).get("a") == SECRET
    assert len(vault.key_file.read_text().splitlines()) == 3


def test_credentials_are_for_the_site_and_the_uri_they_were_given_for(tmp_path: Path) -> None:
    sites, store = SiteStore(tmp_path), CredentialStore(tmp_path)
    sites.put(Site(name="berlin", uri="qemu+ssh://a/system"))
    given = Credentials(user="drover", password=SECRET.decode())
    store.put("berlin", given)
    assert store.of("qemu+ssh://a/system") == given
    assert store.of("qemu+ssh://b/system") is None
    assert not sites.put(Site(name="berlin", uri="qemu+ssh://a/system")) and store.kept() == {"berlin"}
    sites.put(Site(name="berlin", uri="qemu+ssh://b/system"))
    assert store.of("qemu+ssh://b/system") is None and store.kept() == set()
    store.put("berlin", given)
    sites.remove("berlin")
    assert store.kept() == set()
    with pytest.raises(InputError):
        store.put("berlin", given)
    assert SECRET not in stored(tmp_path)


def test_a_uri_with_a_password_is_refused_without_repeating_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="drover site credentials") as told:
        SiteStore(tmp_path).put(Site(name="a", uri="qemu+ssh://root:pl4nted@a/system"))
    assert "pl4nted" not in str(told.value)
