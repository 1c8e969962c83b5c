"""Talking to libvirt: opening a URI, translating its errors, QMP through its monitor."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt
import libvirt_qemu

from drover.errors import InputError, PlatformError
from drover.fence import require
from drover.platforms.libvirt import credentials

# The binding prints every error to stderr unless it is given a handler.
libvirt.registerErrorHandler(lambda _context, _error: None, None)


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Turns libvirt's errors into PlatformError that says what was being done. Raises FencedError: see `fence`."""
    require()
    try:
        yield
    except libvirt.libvirtError as error:
        raise PlatformError(f"{what}: {error.get_error_message() or error}") from error


def open_uri(uri: str) -> libvirt.virConnect:
    """A connection with keep-alive, and the site's credentials if some are kept.

    Raises InputError if the URI leads nowhere, DroverError if the credentials cannot be used.
    """
    _start_event_loop()
    known = credentials.of(uri)
    try:
        connection = credentials.open_with(uri, known)
    except libvirt.libvirtError as error:
        raise InputError(
            f"cannot connect to {uri}: {error.get_error_message()}",
            remedy="check that libvirtd runs there; a URI looks like qemu:///system or qemu+ssh://root@host/system",
        ) from None
    if connection.getType() != "QEMU":
        raise InputError(
            f"{uri} is a {connection.getType()} hypervisor", remedy="Drover needs QEMU/KVM, as in qemu:///system"
        )
    connection.setKeepAlive(5, 6)
    return connection


def qmp(domain: libvirt.virDomain, command: str, **arguments: Any) -> Any:
    """One QMP command to a running VM; its `return`. Raises PlatformError with QEMU's words."""
    request = {"execute": command} | ({"arguments": arguments} if arguments else {})
    with doing(f"asking QEMU of {domain.name()} for {command}"):
        answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, json.dumps(request), 0))
    if "error" in answer:
        raise PlatformError(
            f"QEMU of {domain.name()} refused {command}: {answer['error'].get('desc', answer['error'])}"
        )
    return answer["return"]


_loop_lock = threading.Lock()
_loop: list[threading.Thread] = []


def _start_event_loop() -> None:
    """Keep-alive and lifecycle events need libvirt's event loop, once per process, before the first connection."""
    with _loop_lock:
        if _loop:
            return
        libvirt.virEventRegisterDefaultImpl()
        _loop.append(threading.Thread(target=_turn, name="libvirt-events", daemon=True))
        _loop[0].start()


def _turn() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
