"""Texts that administrators write, checked where they come in and kept as they were written."""

from collections.abc import Callable
from typing import Any

from pydantic import AfterValidator, BeforeValidator, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from drover.errors import InputError


def refused(message: str, remedy: str) -> PydanticCustomError:
    """An error of validation in words of ours; `ctx` holds both."""
    return PydanticCustomError("refused", "{message}", {"message": message, "remedy": remedy})


def misplaced(message: str, remedy: str, place: tuple[str | int, ...]) -> PydanticCustomError:
    """The same for one place within the whole that is validated."""
    return PydanticCustomError("refused", "{message}", {"message": message, "remedy": remedy, "place": place})


def explained(error: ValidationError) -> InputError:
    """The first error of a validation that is not of a file, as an administrator is told it."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return InputError(f"{where}: {first['msg']}" if where else first["msg"], remedy=first.get("ctx", {}).get("remedy"))


def checked(parse: Callable[[str], Any]) -> Callable[[str], str]:
    """Checks a text and keeps it as it was written."""

    def check(text: str) -> str:
        try:
            parse(text)
        except InputError as error:
            raise refused(error.message, error.remedy or "") from None
        return text

    return check


def _written(value: Any) -> Any:
    """A number without a unit is a text as well."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def text(parse: Callable[[str], Any], *examples: str, bare: bool = False) -> tuple[Any, ...]:
    """What makes a string one that `parse` takes; `bare` also takes a number without a unit."""
    schema = {"type": ["string", "number"] if bare else "string", "examples": list(examples)}
    return BeforeValidator(_written), AfterValidator(checked(parse)), WithJsonSchema(schema)
