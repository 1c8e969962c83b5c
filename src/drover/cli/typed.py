"""Secrets as they are given: from a file, from stdin, or typed unseen; never from the command line."""

import sys
from pathlib import Path

import typer

from drover.errors import InputError

_LARGEST = 20_000


def secret_text(what: str, file: Path | None, *, lines: bool = False, confirm: bool = True) -> str:
    """The secret in a file, - for stdin; asked for if none is named. Raises InputError, which never shows it.

    One line unless `lines`: an editor ends it, and nothing else is taken off.
    """
    if file is None:
        text = str(typer.prompt(what.capitalize(), hide_input=True, confirmation_prompt=confirm))
    else:
        text = _read(what, file)
        if not lines:
            text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip() or (not lines and "\n" in text) or "\0" in text:
        raise InputError(f"the {what} is empty, or not one line", remedy="write it alone into the file")
    return text


def _read(what: str, file: Path) -> str:
    try:
        if str(file) == "-":
            content = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with file.open("rb") as opened:
                content = opened.read(_LARGEST + 1)
        text = content.decode()
    except OSError as error:
        raise InputError(
            f"cannot read the {what} file {file}: {error.strerror}", remedy="name one that this user may read"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"the {what} file {file} is not UTF-8", remedy=f"write the {what} into it, as text") from None
    if len(content) > _LARGEST:
        raise InputError(f"the {what} file {file} is larger than {_LARGEST} bytes", remedy=f"name the {what} alone")
    return text
