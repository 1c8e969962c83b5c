"""Printing JSON lines."""

import json
import sys
from typing import Any


def print_json(value: Any) -> None:
    """One object, one line, at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
