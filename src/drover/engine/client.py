"""Calls to one engine's control API: JSON over HTTP on a unix socket (docs/engine-api.yaml)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2

from drover.engine.certificates import Credentials
from drover.engine.status import DeviceStatus, EngineInfo, EngineStatus, SampleStatus, VdiskStatus
from drover.errors import EngineError
from drover.fence import require
from drover.model.migration import OnReadError

Endpoint = Mapping[str, object]
GONE = "engine_gone"
"""Code of the EngineError raised when no engine answers at the socket."""
UNKNOWN_DEVICE = "unknown_device"
"""Code of the EngineError raised for a transport device that the engine does not have open."""
_DEVICE_TIMEOUT = 300.0
"""Seconds that a slow device may take to open, or to have its packs finished and synced."""


def nbd(socket: str, export: str) -> Endpoint:
    """A VDISK behind an NBD server's unix socket."""
    return {"type": "nbd", "socket": socket, "export": export}


def file(path: str, *, create: bool = False) -> Endpoint:
    """A VDISK in a plain file; `create` makes it, sparse, if it is missing."""
    return {"type": "file", "path": path, "create": create}


def block(path: str) -> Endpoint:
    """A VDISK on a block device."""
    return {"type": "block", "path": path}


def pattern(seed: int) -> Endpoint:
    """For a source: bytes that are made, never zero, and do not compress."""
    return {"type": "pattern", "seed": seed}


def discard() -> Endpoint:
    """For a destination: takes everything and keeps nothing; it cannot be compared or verified."""
    return {"type": "discard"}


class EngineClient:
    """One engine. Every method raises EngineError; its code is `engine_gone` if nobody answers.

    What changes something raises FencedError if this process may not act any more (see `fence`).
    """

    def __init__(self, name: str, socket: Path, *, timeout: float = 30) -> None:
        self.name = name
        transport = httpx2.HTTPTransport(uds=str(socket))
        self._http = httpx2.Client(transport=transport, base_url="http://engine", timeout=timeout, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def info(self) -> EngineInfo:
        return EngineInfo.model_validate(self._call("GET", "/v1/engine"))

    def status(self) -> EngineStatus:
        return EngineStatus.model_validate(self._call("GET", "/v1/status"))

    def listen(self, address: str, credentials: Credentials, *, token: int) -> str:
        """Makes it the destination's engine; the address it listens on, with its port."""
        body = {"role": "destination", "listen": address, **_pem(credentials), "token": token}
        return str(self._call("PUT", "/v1/link", body)["address"])

    def connect(
        self, address: str, credentials: Credentials, *, server: str, token: int, connections: int, compression: str
    ) -> None:
        """Makes it the source's engine; it connects, and connects again, by itself."""
        body = {
            "role": "source", "connect": address, "server_name": server, **_pem(credentials), "token": token,
            "connections": connections, "compression": compression,
        }  # fmt: skip
        self._call("PUT", "/v1/link", body)

    def put_vdisk(
        self,
        name: str,
        *,
        size: int,
        endpoint: Endpoint,
        on_read_error: OnReadError | None = None,
        label: str | None = None,
    ) -> VdiskStatus:
        """Makes a VDISK known; `on_read_error` is for a source, which stops if nothing else is said.

        `label` is for a source too: transport devices say by it whose VDISK they hold.
        """
        body: dict[str, object] = {"size": size, "endpoint": dict(endpoint)}
        if on_read_error is not None:
            body["on_read_error"] = on_read_error
        if label is not None:
            body["label"] = label
        answer = self._call("PUT", f"/v1/vdisks/{name}", body)
        return VdiskStatus.model_validate(answer)

    def remove_vdisk(self, name: str) -> None:
        self._call("DELETE", f"/v1/vdisks/{name}")

    def background(self, name: str, mode: str) -> None:
        self._call("POST", f"/v1/vdisks/{name}/background", {"mode": mode})

    def put_device(self, device: str, *, path: str, key: bytes, purpose: str) -> DeviceStatus:
        """Opens a transport device to `load` (source), `unload` (destination) or `verify`; a failed one anew."""
        body = {"path": path, "key": key.hex(), "purpose": purpose}
        return DeviceStatus.model_validate(self._call("PUT", f"/v1/devices/{device}", body, timeout=_DEVICE_TIMEOUT))

    def remove_device(self, device: str) -> None:
        """Finishes the packs of a device that is loaded, ends whatever else is done with it, and lets go of it."""
        self._call("DELETE", f"/v1/devices/{device}", timeout=_DEVICE_TIMEOUT)

    def forget_device(self, device: str) -> int:
        """What is on that device alone has to be copied again; the number of chunks. For a source."""
        return int(self._call("POST", f"/v1/devices/{device}/forget", {})["chunks"])

    def epoch(self, name: str, number: int, *, endpoint: Endpoint, bitmap: str) -> None:
        body = {"epoch": number, "endpoint": dict(endpoint), "bitmap": bitmap}
        self._call("POST", f"/v1/vdisks/{name}/epochs", body)

    def extents(self, name: str, number: int, extents: Sequence[tuple[int, int]]) -> None:
        """An epoch of these offsets and lengths (8,192 at most) instead of a bitmap's, to probe a link."""
        self._call("POST", f"/v1/vdisks/{name}/epochs", {"epoch": number, "extents": list(extents)})

    def verify(self, name: str, scope: str) -> None:
        """Compares hashes of both sides; chunks that differ are sent again."""
        self._call("POST", f"/v1/vdisks/{name}/verify", {"scope": scope, "repair": True})

    def start_sample(
        self, endpoint: Endpoint, *, size: int, chunks: int, seed: int = 0, rate: int | None = None
    ) -> int:
        """Begins to read up to `chunks` (16,384 at most) allocated chunks, at `rate` bytes/s at most; its number."""
        body = {"endpoint": dict(endpoint), "size": size, "chunks": chunks, "seed": seed, "rate": rate}
        return int(self._call("POST", "/v1/samples", body)["id"])

    def sample(self, number: int) -> SampleStatus:
        return SampleStatus.model_validate(self._call("GET", f"/v1/samples/{number}"))

    def remove_sample(self, number: int) -> None:
        """Ends a sample if it is being taken, and forgets it."""
        self._call("DELETE", f"/v1/samples/{number}")

    def set_connections(self, connections: int) -> None:
        """So many connections from now on, 1 to 64, while the session goes on. For a source."""
        self._call("PATCH", "/v1/link", {"connections": connections})

    def retry(self, name: str) -> None:
        self._call("POST", f"/v1/vdisks/{name}/retry", {})

    def pace(self, *, background: int | None, link: int | None) -> None:
        """Limits in bytes/s on the wire; None lifts a limit."""
        self._call("PUT", "/v1/pacing", {"background": background, "link": link})

    def fence(self, token: int) -> None:
        """After this no write of this token, or an older one, reaches a VDISK."""
        self._call("POST", "/v1/fence", {"token": token})

    def stop(self) -> None:
        self._call("POST", "/v1/stop", {})

    def _call(self, method: str, path: str, body: object = None, *, timeout: float | None = None) -> Any:
        if method != "GET":
            require()
        patience = self._http.timeout if timeout is None else timeout
        try:
            answer = (
                self._http.request(method, path, timeout=patience)
                if body is None
                else self._http.request(method, path, json=body, timeout=patience)
            )
        except httpx2.TimeoutException as error:
            raise EngineError(f"the {self.name} engine does not answer {method} {path}: {error}", code=GONE) from error
        except httpx2.HTTPError as error:
            raise EngineError(f"the {self.name} engine is gone ({method} {path}: {error})", code=GONE) from error
        if answer.is_success:
            return answer.json() if answer.content else {}
        try:
            problem = answer.json()
        except ValueError:
            problem = {"detail": answer.text}
        words = problem.get("detail") or problem.get("title") or answer.reason_phrase
        raise EngineError(f"the {self.name} engine refused {method} {path}: {words}", code=problem.get("code"))


def _pem(credentials: Credentials) -> dict[str, str]:
    return {"certificate": credentials.certificate, "key": credentials.key, "authority": credentials.authority}
