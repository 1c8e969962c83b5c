"""Logs: lines on stderr that say what happened, to which migration, in which run and request, and for whom.

JSON, an object a line, or text with the same fields. What libraries log comes out in the same way. Secrets are taken
out on the way, and tracebacks hold no values of variables.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, get_args

import structlog
from structlog.typing import EventDict, WrappedLogger

from drover.errors import InputError
from drover.hardening import without_secrets
from drover.scrub import scrub

Format = Literal["json", "text"]
Level = Literal["debug", "info", "warning", "error"]
FORMAT, LEVEL, _FIELDS = "DROVER_LOG_FORMAT", "DROVER_LOG_LEVEL", "DROVER_LOG_FIELDS"
"""Variables in which a process tells those that it starts how to log, and with which fields."""
_TALKATIVE = ("httpx2", "httpcore2", "httpx", "httpcore", "authlib", "aiosmtplib", "mail.log", "asyncio", "dbos")
"""Libraries that below this level write addresses, headers or arguments."""
_always: dict[str, Any] = {}
_here: ContextVar[MutableMapping[str, Any] | None] = ContextVar("log_fields", default=None)


def logger(name: str) -> Any:
    """The logger of a part; its methods take an event and fields: `log.info("began", migration=id)`."""
    return structlog.stdlib.get_logger(f"drover.{name}")


def configure(format: str = "text", level: str = "info") -> None:
    """From now on logs of this process go to stderr. Raises InputError for a format or a level that is none."""
    for word, known, what in ((format, get_args(Format), "log format"), (level, get_args(Level), "log level")):
        if word not in known:
            raise InputError(f"{word!r} is not a {what}", remedy=f"use one of {', '.join(known)}")
    os.environ[FORMAT], os.environ[LEVEL] = format, level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(format))
    root = logging.getLogger()
    root.handlers = [handler]
    lowest = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(lowest, logging.INFO))
    logging.getLogger("drover").setLevel(lowest)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(lowest, logging.WARNING))
    # It makes a handler of its own for itself unless it has one.
    dbos = logging.getLogger("dbos")
    dbos.handlers, dbos.propagate = [handler], False
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_common(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    _always.clear()
    _always.update(_inherited())


def silent() -> None:
    """Nothing is logged until `configure`."""
    structlog.configure(processors=[_drop], cache_logger_on_first_use=False)


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """These fields are in all that is logged within, also by threads and tasks that are started with this context."""
    token = _here.set({**(_here.get() or {}), **fields})
    try:
        yield
    finally:
        _here.reset(token)


def note(**fields: Any) -> None:
    """Adds fields to those of the `bound` around this, for whoever shares it; nothing outside of one."""
    if (here := _here.get()) is not None:
        here.update(fields)


def environment(**fields: Any) -> dict[str, str]:
    """What a process that is started finds in its environment, so that it logs with the fields of now, and these.

    Secrets of this process's own environment are not among it.
    """
    return {**without_secrets(), _FIELDS: json.dumps({**_always, **(_here.get() or {}), **fields}, default=str)}


def _inherited() -> dict[str, Any]:
    try:
        fields = json.loads(os.environ.get(_FIELDS, "{}"))
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _common() -> list[Any]:
    return [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        _with_fields,
    ]


def _formatter(format: str) -> logging.Formatter:
    if format == "json":
        last: Any = structlog.processors.JSONRenderer(default=str)
    else:
        last = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_common(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _safe,
            last,
        ],
    )


def _with_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name, value in {**_always, **(_here.get() or {})}.items():
        event.setdefault(name, value)
    return event


def _safe(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Without secrets; an event is one line, whatever is in a name that came from outside."""
    safe: EventDict = scrub(dict(event))
    safe["event"] = str(safe.get("event", "")).replace("\r", "\\r").replace("\n", "\\n")
    first = ("timestamp", "level", "logger", "event")
    return {**{name: safe[name] for name in first if name in safe}, **safe}


def _drop(_: WrappedLogger, __: str, ___: EventDict) -> EventDict:
    raise structlog.DropEvent


silent()
