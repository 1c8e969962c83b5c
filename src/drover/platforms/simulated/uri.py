"""What a simulated site is: `simulated:///NAME?vms=1000&seed=1&hosts=20&speed=1000&seconds=600&failures=0.1`."""

from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drover.errors import InputError

SCHEME = "simulated"


class SimulatedSite(BaseModel):
    """The parameters of a site: all that happens there follows from them, but for when it is asked to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    vms: Annotated[int, Field(ge=0, le=100_000)] = 0
    """That are there at the beginning."""
    seed: int = 1
    hosts: Annotated[int, Field(ge=1, le=10_000)] = 20
    speed: Annotated[float, Field(gt=0)] = 1.0
    """Virtual seconds in one real second."""
    seconds: Annotated[float, Field(gt=0)] = 600.0
    """Virtual, that background replication of a VM takes."""
    failures: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Chance that a step of a migration fails in one of the ways of `failures.py`."""


def is_simulated(uri: str) -> bool:
    """Whether a URI names a simulated site."""
    return uri.startswith(f"{SCHEME}:")


def parse(uri: str) -> SimulatedSite:
    """Raises InputError."""
    parts = urlsplit(uri)
    if parts.scheme != SCHEME or parts.netloc:
        raise InputError(f"{uri!r} is no simulated site", remedy="write simulated:///NAME?vms=1000&seed=1")
    try:
        return SimulatedSite.model_validate({"name": parts.path.strip("/"), **dict(parse_qsl(parts.query))})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{uri}: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            remedy=f"its parameters are {', '.join(name for name in SimulatedSite.model_fields if name != 'name')}",
        ) from None
