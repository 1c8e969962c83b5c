"""Options that several verbs share, and how their texts become a specification. Wrong ones raise InputError."""

from typing import Annotated, Any

import typer
from pydantic import ValidationError

from drover.errors import InputError
from drover.model.migration import Spec
from drover.model.settings import COMPRESSIONS, Settings
from drover.model.texts import explained

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
From = Annotated[str, typer.Option("--from", metavar="URI", help="The site where the VM runs, as libvirt names it.")]
To = Annotated[str, typer.Option("--to", metavar="URI", help="The site where it shall run.")]
Network = Annotated[
    list[str],
    typer.Option("--network", metavar="A=B", help="Source network A becomes B. Repeatable. Default: same name."),
]
Pool = Annotated[
    list[str],
    typer.Option("--pool", metavar="[VDISK=]POOL", help="Destination pool of all VDISKs, or of one. Repeatable"),
]
Format = Annotated[
    list[str],
    typer.Option(
        "--format", metavar="[VDISK=]FORMAT", help="raw or qcow2. Default: what the pool holds, else as at the source."
    ),
]
CutoverMode = Annotated[
    str | None,
    typer.Option(
        "--cutover",
        metavar="auto|resume|restart|manual",
        help="resume: continue with its memory, no reboot. restart: shut down here, boot there. manual: shut down "
        "here, you start it there. auto: resume if it fits the maximum downtime. Default: auto.",
    ),
]
MaxDowntime = Annotated[
    str | None,
    typer.Option(
        "--max-downtime", metavar="TIME", help="Cut over only when the predicted downtime is below this. Default: 30s."
    ),
]
TargetTime = Annotated[
    str | None,
    typer.Option("--target-time", metavar="TIME", help="Hold the migration if it could not cut over in this time."),
]
ShutdownTimeout = Annotated[
    str | None,
    typer.Option("--shutdown-timeout", metavar="TIME", help="How long a guest may take to shut down. Default: 2m."),
]
Bandwidth = Annotated[
    str | None,
    typer.Option("--bandwidth", metavar="RATE", help="Use at most this much of the link: 200mbit, or off."),
]
MaxLatency = Annotated[
    str | None,
    typer.Option(
        "--max-latency",
        metavar="+N%|+TIME|off",
        help="Slow background replication so that the VM's I/O latency at p99 rises by at most this, as in +20% or "
        "+5ms; with +20%,+5ms both hold. Default: off.",
    ),
]
WriteBackpressure = Annotated[
    bool | None,
    typer.Option(
        "--write-backpressure/--no-write-backpressure",
        help="Allow the VM's writes to be slowed, as little as it takes, if the maximum downtime or the target time "
        "cannot be met otherwise. Default: never.",
    ),
]
WriteFloor = Annotated[
    str | None,
    typer.Option("--write-floor", metavar="RATE", help="Never slow a VDISK's writes below this. Default: 1MiB/s."),
]
ReadErrors = Annotated[
    str | None,
    typer.Option(
        "--on-read-error",
        metavar="stop|zero",
        help="stop: hold the migration at a bad sector. zero: send zeros in its place, and list it. Default: stop.",
    ),
]
Connections = Annotated[
    int | None,
    typer.Option(
        "--connections",
        metavar="N",
        help="TLS connections of the link, 1 to 64. Default: as `drover estimate` measured, else 8.",
    ),
]
Compression = Annotated[
    str | None, typer.Option("--compression", metavar="|".join(COMPRESSIONS), help="Default: auto, chosen per chunk.")
]
DestinationAddress = Annotated[
    str | None,
    typer.Option(
        "--destination-address", metavar="ADDRESS", help="Where the source host reaches the destination host."
    ),
]
Device = Annotated[
    list[str],
    typer.Option(
        "--device",
        metavar="PATH",
        help="Carry the bulk by road on the transport device mounted here at the source's host (`drover device init`). "
        "Repeatable.",
    ),
]
RestByNetwork = Annotated[
    bool | None,
    typer.Option(
        "--rest-by-network/--no-rest-by-network",
        help="Send what does not fit onto the devices over the network. Default: wait for another device.",
    ),
]

Together = Annotated[bool, typer.Option("--together", help="The VMs are one group: they cut over behind one barrier.")]
Shipping = Annotated[
    str | None,
    typer.Option(
        "--shipping",
        metavar="TIME[..TIME]",
        help="How long transport devices travel, as in 24h or 20h..48h: the forecast reckons with it.",
    ),
]
DeviceRate = Annotated[
    str | None, typer.Option("--device-rate", metavar="RATE", help="At which a device is written. Default: 100MB.")
]


def settings(**texts: str | int | bool | None) -> dict[str, Any]:
    """The fields of a Spec that were given; what was left out is absent, so that it keeps its value or default."""
    return asked(**texts).given()


def asked(**texts: str | int | bool | None) -> Settings:
    """The settings as they were given. Raises InputError."""
    try:
        return Settings.model_validate(texts)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise InputError(f"{option}: {first['msg']}", remedy=first.get("ctx", {}).get("remedy")) from None


def specification(
    vm: str, source: str, destination: str, networks: list[str], pools: list[str], formats: list[str], **given: Any
) -> Spec:
    """What the administrator asked for. Raises InputError."""
    fields = {
        "vm": vm,
        "source": source,
        "destination": destination,
        "networks": _mapping("--network", networks, keyed=True),
        "pools": _mapping("--pool", pools, keyed=False),
        "formats": _mapping("--format", formats, keyed=False),
        **given,
    }
    try:
        return Spec.model_validate(fields)
    except ValidationError as error:
        raise explained(error) from None


def request(
    vm: str,
    source: str,
    destination: str,
    networks: list[str],
    pools: list[str],
    formats: list[str],
    settings: Settings,
) -> dict[str, Any]:
    """What a server is asked for, `POST /v1/migrations`. Raises InputError."""
    return {
        "vm": vm,
        "source": source,
        "destination": destination,
        "networks": _mapping("--network", networks, keyed=True),
        "pools": _all_as_star(_mapping("--pool", pools, keyed=False)),
        "formats": _all_as_star(_mapping("--format", formats, keyed=False)),
        "settings": settings.model_dump(mode="json", exclude_none=True),
    }


def _all_as_star(mapping: dict[str, str]) -> dict[str, str]:
    return {name or "*": value for name, value in mapping.items()}


def changed(spec: Spec, given: dict[str, Any]) -> Spec:
    """The same specification with other settings. Raises InputError if they do not go together."""
    try:
        return Spec.model_validate({**spec.model_dump(), **given})
    except ValidationError as error:
        raise explained(error) from None


def _mapping(option: str, pairs: list[str], *, keyed: bool) -> dict[str, str]:
    result: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals and not keyed:
            key, value = "", pair
        if not value or (keyed and not (key and equals)):
            example = "A=B" if keyed else "NAME or VDISK=NAME"
            raise InputError(f"{option} {pair!r} is not a mapping", remedy=f"write it as {option} {example}")
        if key in result:
            raise InputError(f"{option} names {key or 'the default'!r} twice", remedy="name it once")
        result[key] = value
    return result
