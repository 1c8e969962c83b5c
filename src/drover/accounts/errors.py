"""Why the management server does not let somebody in."""

import math

from drover.errors import DroverError


class AccessError(DroverError):
    """Nobody is known by this password, session secret or API token, or no longer."""


class LockedError(DroverError):
    """Too many log-ins failed in a row; the next one is looked at in `seconds`."""

    def __init__(self, what: str, *, seconds: float) -> None:
        remedy = f"try again after {math.ceil(seconds / 60)} min"
        super().__init__(f"too many log-ins {what} failed in a row", remedy=remedy)
        self.seconds = seconds
