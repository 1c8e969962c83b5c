"""YAML files that administrators write: read strictly, every error with the line, the field and the way out.

Every plain scalar is a text, so that a VM may be called `101` or `no`; what a field needs, its model makes of it.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from drover.errors import InputError

LARGEST = 1 << 20
"""Bytes of a file; larger ones are refused."""
_DEEPEST = 12
"""Levels of nesting; a plan needs five."""
_SHOWN = 5
"""Errors that are told at once."""
_QUOTES = 'put what begins with * & ! or holds [ ] into quotes, as in "*-db"'
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[_Model]):
    """What a file holds. `called` follows "a" in errors; `parts` are all models that have fields of it."""

    called: str
    model: type[_Model]
    parts: tuple[type[BaseModel], ...]
    schema: str
    """Where its fields are described, as a remedy says it."""
    shorter: str
    """How one that is too large becomes smaller."""

    def load(self, path: Path) -> _Model:
        """Raises InputError that names the file, the line, the field, and the way out."""
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST + 1)
        except OSError as error:
            raise InputError(
                f"cannot read the {self.called} {path}: {error.strerror}", remedy="name a file that is there"
            ) from None
        if len(content) > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST >> 20} MiB: it is no {self.called}", remedy=self.shorter)
        try:
            return self.parse(content.decode("utf-8-sig"), str(path))
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 at byte {error.start}", remedy="save it as UTF-8") from None

    def parse(self, text: str, name: str) -> _Model:
        """What this text holds; `name` is what errors call it. Raises InputError as `load` does."""
        node, value = _read(text, name, self)
        if node is None or not isinstance(value, dict):
            raise InputError(f"{name} is not a {self.called}: it has no fields", remedy=self.schema)
        try:
            return self.model.model_validate(value)
        except ValidationError as error:
            raise _explained(error, node, name, self) from None

    def fields(self) -> list[str]:
        """Every name that stands before a colon in such a file."""
        return sorted({field.alias or name for part in self.parts for name, field in part.model_fields.items()})


class _Loader(yaml.SafeLoader):
    """Refuses what is read differently from what it looks like: duplicate keys, aliases, tags."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012
    called = ""
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _wrong(event.start_mark, f"an alias (*) has no meaning in a {self.called}")
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise _wrong(event.start_mark, f"an anchor (&) has no meaning in a {self.called}")
        if getattr(event, "tag", None) is not None:
            raise _wrong(event.start_mark, f"a tag (!) has no meaning in a {self.called}")
        if self._depth == _DEEPEST:
            raise _wrong(event.start_mark, f"it is nested in more than {_DEEPEST} levels")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _wrong(key.start_mark, "a key is not a text")
            if key.value in seen:
                raise _wrong(key.start_mark, f"{key.value!r} is there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read(text: str, name: str, kind: Kind[Any]) -> tuple[yaml.Node | None, Any]:
    """The text as nodes, which know their lines, and as values."""
    try:
        loader = _Loader(text)
        loader.called = kind.called
        try:
            node = loader.get_single_node()
            return node, None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        remedy = getattr(error, "note", None) or _QUOTES
        problem = ": ".join(filter(None, (error.context, error.problem)))
        raise InputError(f"{name}{line}: {problem}", remedy=remedy) from None
    except yaml.YAMLError as error:
        raise InputError(f"{name} is not YAML: {str(error).splitlines()[0]}", remedy=kind.schema) from None


def _wrong(mark: Any, problem: str) -> yaml.MarkedYAMLError:
    note = "name it once" if problem.endswith("twice") else _QUOTES
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark, note=note)


def _explained(error: ValidationError, node: yaml.Node, name: str, kind: Kind[Any]) -> InputError:
    """The first errors, each with its place."""
    told = []
    for one in error.errors(include_url=False, include_input=False)[:_SHOWN]:
        context = one.get("ctx", {})
        place = (*(part for part in one["loc"] if part != "[key]"), *context.get("place", ()))
        message, remedy = _words(one["type"], one["msg"], place, context.get("remedy"), kind)
        where = _field(place)
        told.append((f"{name}:{_line(node, place)}: {where}{': ' if where else ''}{message}", remedy))
    (first, remedy), *others = told
    more = error.error_count() - len(told)
    return InputError(
        "; ".join([first, *(f"{message} ({cure})" for message, cure in others)])
        + (f"; and {more} more" if more else ""),
        remedy=remedy,
    )


def _words(error: str, message: str, place: tuple[Any, ...], remedy: str | None, kind: Kind[Any]) -> tuple[str, str]:
    if error == "extra_forbidden":
        close = get_close_matches(str(place[-1]), kind.fields(), n=1)
        return "there is no such field here", f"{close[0]}, perhaps? {kind.schema}" if close else kind.schema
    if error == "missing":
        return "it is missing", f"add it; {kind.schema}"
    if error == "string_pattern_mismatch":
        return "it is not a name for this", "use letters, digits, - _ . and begin with a letter or digit"
    return message, remedy or kind.schema


def _field(place: tuple[Any, ...]) -> str:
    """`groups[0].settings.max_downtime`"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _line(node: yaml.Node, place: tuple[Any, ...]) -> int:
    """Of the innermost part of this place that the file has."""
    line = node.start_mark.line
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return int(line) + 1
