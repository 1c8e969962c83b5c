"""The errors that Drover raises: what was being done, to what, and what to do next."""


class DroverError(Exception):
    """Anything that the administrator must know of.

    The message says what was being done, to what, and what went wrong; `remedy` says what to do next.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class InputError(DroverError):
    """What the administrator typed cannot be meant: says what is wrong and what would be right."""

    exit_code = 2


class CheckError(DroverError):
    """The world is not ready for what was asked; nothing was changed."""

    exit_code = 3


class PlatformError(DroverError):
    """A hypervisor refused or failed; carries its own words."""


class HostError(DroverError):
    """A command or a file operation on a site's host failed."""


class EngineError(DroverError):
    """An engine refused a request, is not there, or holds a VDISK. `code` is the engine's own."""

    def __init__(self, message: str, *, code: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


class MigrationError(DroverError):
    """A migration cannot go on by itself; the source is intact."""


class HoldError(MigrationError):
    """The cutover gate did not open in the target time; says what would open it."""

    exit_code = 4


class GroupError(MigrationError):
    """A group's cutover was taken back for what befell one of its VMs; the others need nobody's hand."""
