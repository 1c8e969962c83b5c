"""A crash leaves no core and no values behind; processes that are started get no secrets that they do not need."""

import subprocess
import sys

from drover.hardening import without_secrets

_CRASH = """
import ctypes, resource
from drover.hardening import harden
harden()
secret = "pl4nted-" + "in-memory"
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
ctypes.string_at(0)
"""


def test_a_crash_says_where_it_was_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", _CRASH], capture_output=True, text=True, check=False)
    assert done.returncode == -11
    assert done.stdout == "(0, 0) 0\n"
    assert "Segmentation fault" in done.stderr and "string_at" in done.stderr
    assert "pl4nted" not in done.stderr and "-in-memory" not in done.stderr


def test_variables_that_name_secrets_are_not_handed_on() -> None:
    given = {"PATH": "/bin", "SMTP_PASSWORD": "x", "HOOK_SECRET": "x", "DROVER_TOKEN": "x", "DROVER_DATA": "/d"}
    assert without_secrets(given) == {"PATH": "/bin", "DROVER_DATA": "/d"}
