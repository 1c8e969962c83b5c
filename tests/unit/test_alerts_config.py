"""`alerts.yaml`: read strictly, every error with its line and the way out, and no secret in any of them."""

from pathlib import Path

import pytest

from drover.alerts.config import Config, Event, load
from drover.errors import InputError

MAIL = """\
receivers:
  ops:
    email:
      host: mail.example.org
      from: d@example.org
      to: [o@example.org]
"""
HOOK = "receivers:\n  hook:\n    webhook:\n      url: https://hooks.example.org/x\n      secret_env: HOOK\n"
RULE = "rules:\n  - {on: failed, to: [ops]}\n"
SUMMARY = "rules:\n- {on: daily-summary, to: [ops]}\n"
HEAD = "version: 1\n"


def read(folder: Path, text: str) -> Config:
    (folder / "alerts.yaml").write_text(text)
    return load(folder / "alerts.yaml")


def test_what_is_given_and_what_is_by_default(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        HEAD + MAIL + HOOK.removeprefix("receivers:\n") + "rules:\n"
        "- {on: failed, to: [ops, hook]}\n- {on: link-lost, for: 90, to: [ops]}\n- {on: host-gone, to: [ops]}\n"
        "- {on: daily-summary, at: 7:05, to: [ops]}\n",
    )  # fmt: skip
    email = config.receivers["ops"].email
    assert email is not None and email.at == ("mail.example.org", 587) and email.security == "starttls"
    assert [rule.seconds for rule in config.rules] == [0, 90, 60, 0]
    assert [rule.name for rule in config.rules] == ["failed", "link-lost 90s", "host-gone 60s", "daily-summary 07:05"]
    assert config.rules[3].on is Event.DAILY_SUMMARY


def test_the_example_in_the_readme_is_one(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    example = next(block.split("```")[0] for block in readme.split("```yaml\n")[1:] if "receivers:" in block)
    config = read(tmp_path, example)
    assert {rule.on for rule in config.rules} == set(Event)


def mail(*lines: str) -> str:
    return HEAD + MAIL + "".join(f"      {line}\n" for line in lines) + RULE


def hook(*lines: str) -> str:
    text = HEAD + HOOK
    for line in lines:
        name = line.split(":")[0]
        kept = [old for old in text.splitlines() if not old.startswith(f"      {name}:")]
        text = "\n".join([*kept, f"      {line}"]) + "\n"
    return text + RULE.replace("ops", "hook")


WRONG: dict[str, tuple[str, int, str, str]] = {
    "a field that is not known": (mail("prt: 25"), 8, "prt: there is no such", "port"),
    "a password": (mail("password: pl4nted"), 8, "email.password: there is no such", "password_"),
    "another version": (HEAD.replace("1", "2") + MAIL + RULE, 1, "not a version", "version: 1"),
    "no receivers": (HEAD + RULE, 1, "receivers: it is missing", "add it"),
    "no rules": (HEAD + MAIL + "rules: []\n", 8, "rules", "schema"),
    "a receiver that is both": (
        HEAD + MAIL + "    webhook: {url: 'https://a.example.org', secret_env: A}\n" + RULE, 3, "one of", "give one",
    ),
    "a receiver that is nothing": (HEAD + "receivers:\n  ops: {}\n" + RULE, 3, "one of email and", "give one"),
    "a receiver that is not there": (HEAD + MAIL + RULE.replace("[ops]", "[ops, op]"), 9, "receiver 'op'", "are ops"),
    "two receivers of one name": (HEAD + MAIL + MAIL.removeprefix("receivers:\n") + RULE, 8, "is there twice", "once"),
    "no TLS": (mail("security: none"), 8, "everybody on the way to mail.example.org", "insecure: true"),
    "another security": (mail("security: ssl"), 8, "'starttls'", "schema"),
    "a port that is none": (mail("port: 70000"), 8, "port", "schema"),
    "a user without a password": (mail("username: d"), 8, "needs a password", "password_file"),
    "a password without a user": (mail("password_env: A"), 8, "a user name", "username"),
    "a password twice": (
        mail("username: d", "password_env: A", "password_file: /a"), 8, "named once", "one of",
    ),
    "a password in place of its name": (
        mail("username: d", "password_stored: pl4nted!"), 9, "not a name", "letters",
    ),
    "a password stored and in a file": (
        mail("username: d", "password_stored: a", "password_file: /a"), 8, "named once", "one of",
    ),
    "a password in place of its file": (mail("username: d", "password_file: pl4nted"), 9, "whole path", "root"),
    "a password in place of its variable": (mail("username: d", "password_env: pl4nted"), 9, "variable", "its name"),
    "a host that is a URL": (HEAD + MAIL.replace("host: mail", "host: smtp://mail") + RULE, 5, "not a host", "alone"),
    "an address that is none": (HEAD + MAIL.replace("[o@", "[o@@") + RULE, 7, "not an e-mail address", "operators@"),
    "an address with a line break": (
        HEAD + MAIL.replace("[o@example.org]", '["o@example.org\\nBcc: x@example.org"]') + RULE, 7, "not an", "ASCII",
    ),
    "two in one": (HEAD + MAIL.replace("[o@example.org]", '["a@x.org, b@x.org"]') + RULE, 7, "not an", "ASCII"),
    "a blank in an address": (HEAD + MAIL.replace("[o@example.org]", "[a b@x.org]") + RULE, 7, "not an", "ASCII"),
    "more than an address": (HEAD + MAIL.replace("[o@example.org]", "[a@x.org> SIZE=1]") + RULE, 7, "not an", "ASCII"),
    "nobody to send to": (HEAD + MAIL.replace("[o@example.org]", "[]") + RULE, 7, "to", "schema"),
    "http": (hook("url: http://hooks.example.org/pl4nted"), 6, "show every alert", "https://"),
    "a user in a URL": (hook("url: https://u:pl4nted@hooks.example.org/"), 6, "a user or a password", "secret"),
    "no URL": (hook("url: pl4nted"), 6, "not the URL of a webhook", "https://hooks"),
    "a URL with a port that is none": (hook("url: https://a:pl4nted/"), 6, "not the URL", "https://hooks"),
    "no secret": (hook("secret_env: A", "secret_file: /a"), 4, "not named once", "one of"),
    "another event": (HEAD + MAIL + RULE.replace("failed", "fail"), 9, "rules[0].on", "schema"),
    "a time that is none": (HEAD + MAIL + SUMMARY.replace("}", ", at: 24:00}"), 9, "time of", "07:00"),
    "a summary without a time": (HEAD + MAIL + SUMMARY, 9, "a time of day", "at:"),
    "a time for what has none": (HEAD + MAIL + "rules:\n- {on: failed, at: 7:00, to: [ops]}\n", 9, "time of", "leave"),
    "a wait in vain": (HEAD + MAIL + "rules:\n- {on: failed, for: 5m, to: [ops]}\n", 9, "at once", "leave"),
    "a wait that is none": (HEAD + MAIL + "rules:\n- {on: link-lost, for: long, to: [ops]}\n", 9, "a duration", "5m"),
    "an alias": (HEAD + MAIL + "rules: *a\n", 8, "no meaning in a configuration of alerts", "quotes"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_with_its_line_and_the_way_out(tmp_path: Path, what: str) -> None:
    text, line, said, remedy = WRONG[what]
    with pytest.raises(InputError) as refused:
        read(tmp_path, text)
    assert refused.value.message.startswith(f"{tmp_path / 'alerts.yaml'}:{line}: "), refused.value
    assert said in refused.value.message
    assert remedy in str(refused.value)
    assert "pl4nted" not in f"{refused.value!r} {refused.value}"


@pytest.mark.parametrize(
    "text",
    [
        mail("security: none", "insecure: true"),
        mail("security: none").replace("mail.example.org", "127.0.0.1"),
        mail("security: none").replace("mail.example.org", '"::1"'),
        hook("url: http://localhost:8080/x"),
        hook("url: 'http://[::1]:8080/x'"),
    ],
)
def test_without_tls_it_stays_on_this_machine_or_is_said(tmp_path: Path, text: str) -> None:
    read(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the configuration of alerts"):
        load(tmp_path / "alerts.yaml")


def test_the_schema_has_every_field() -> None:
    described = str(Config.model_json_schema())
    for name in ("from", "for", "password_file", "secret_env", "daily-summary", "insecure"):
        assert f"'{name}'" in described
