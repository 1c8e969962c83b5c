"""What a crash leaves behind: where it was in the program, and nothing of this process's memory."""

import contextlib
import ctypes
import faulthandler
import io
import os
import resource
from collections.abc import Mapping

from drover.scrub import is_secret

_PR_SET_DUMPABLE = 4


def harden() -> None:
    """No core dumps, of this process and those that it starts; a crash of the interpreter says where it was.

    Nor may other processes of this user read its memory or its environment.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A collector of core dumps that the kernel starts does not ask for the limit.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # Where stderr is no file (a test that captures it) there is nowhere to say it.
    with contextlib.suppress(io.UnsupportedOperation, AttributeError, ValueError):
        faulthandler.enable()


def without_secrets(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a process that needs no secret: without the variables whose names say that they are one."""
    given = os.environ if environment is None else environment
    return {name: value for name, value in given.items() if not is_secret(name)}
