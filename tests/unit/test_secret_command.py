"""`drover secret` and `drover site credentials` on this machine: taken unseen, kept encrypted, shown by nothing."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drover.alerts.config import EmailReceiver, WebhookReceiver
from drover.alerts.message import DeliveryError
from drover.cli.main import app
from drover.store import CredentialStore, Vault

run = CliRunner()
SECRET = "pl4nted-s3cret"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DROVER_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("DROVER_SERVER", raising=False)
    return tmp_path / "data"


def test_what_alerts_name_is_set_listed_rotated_and_removed(folder: Path) -> None:
    hook = WebhookReceiver.model_validate({"url": "https://hooks.example.org/x", "secret_stored": "hook"})
    with pytest.raises(DeliveryError, match="is stored"):
        hook.secret()
    shown = run.invoke(app, ["secret", "set", "hook", "--file", "-", "--json"], input=SECRET + "\n")
    assert shown.exit_code == 0 and json.loads(shown.stdout) == {"event": "secret", "name": "hook"}
    typed = run.invoke(app, ["secret", "set", "smtp"], input=f"{SECRET}\n{SECRET}\n")
    assert typed.exit_code == 0 and SECRET not in typed.stdout
    assert hook.secret() == SECRET
    mail = {
        "host": "mail.example.org",
        "username": "u",
        "password_stored": "smtp",
        "from": "d@x.org",
        "to": ["o@x.org"],
    }
    assert EmailReceiver.model_validate(mail).password() == SECRET
    listed = run.invoke(app, ["secret", "list", "--json"]).stdout.splitlines()
    assert [json.loads(line)["name"] for line in listed] == ["alert/hook", "alert/smtp"]
    before = (folder / "vault.key").read_text()
    assert json.loads(run.invoke(app, ["secret", "rotate", "--json"]).stdout)["secrets"] == 2
    assert (folder / "vault.key").read_text() != before and hook.secret() == SECRET
    assert run.invoke(app, ["secret", "remove", "hook"]).exit_code == 0
    assert list(Vault().names()) == ["alert/smtp"]


@pytest.mark.parametrize("text", ["", "\n", f"{SECRET}\nmore\n", SECRET * 2000, f"{SECRET}\0"])
def test_what_is_no_secret_is_refused_unseen(text: str) -> None:
    refused = run.invoke(app, ["secret", "set", "a", "--file", "-"], input=text)
    assert refused.exception is not None and SECRET not in str(refused.exception) + refused.output


def test_a_secret_in_the_place_of_its_name_is_not_repeated() -> None:
    refused = run.invoke(app, ["secret", "set", f"{SECRET}!", "--file", "-"], input="x\n")
    assert refused.exception is not None and SECRET not in str(refused.exception) + refused.output


def test_credentials_of_a_site(tmp_path: Path) -> None:
    assert run.invoke(app, ["site", "add", "berlin", "qemu:///system"]).exit_code == 0
    (tmp_path / "password").write_text(SECRET + "\n")
    words = ["site", "credentials", "berlin"]
    given = run.invoke(app, [*words, "--user", "drover", "--password-file", str(tmp_path / "password")])
    assert given.exit_code == 0 and SECRET not in given.output
    kept = CredentialStore().of("qemu:///system")
    assert kept is not None and kept.password is not None and kept.password.get_secret_value() == SECRET
    listed = json.loads(run.invoke(app, ["site", "list", "--json"]).stdout)
    assert listed == {"event": "site", "name": "berlin", "uri": "qemu:///system", "has_credentials": True}
    (tmp_path / "key").write_text(SECRET)
    for wrong in ([], ["--password-file", "x"], ["--ssh-key-file", str(tmp_path / "key")]):
        refused = run.invoke(app, [*words, *wrong])
        assert refused.exception is not None and SECRET not in str(refused.exception)
    assert run.invoke(app, [*words, "--remove"]).exit_code == 0
    assert CredentialStore().kept() == set()
