"""The options of `df.write.format("ngsi")` and `df.writeStream.format("ngsi")`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark_ngsi.errors import OptionError
from pyspark_ngsi.http import Access

OPERATIONS = ("upsert", "update", "append", "replace", "delete")
APIS = ("v2", "ld")
# Half of what a gateway takes in one request by default (spark.max_body).
STAGE_BYTES = 4 << 20
# As the gateway checks the names of queries.
_TOKEN = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True)
class WriteOptions:
    """What a job asks for, checked; small and picklable."""

    accesses: tuple[Access, ...]
    """The gateways of the option `url`, or one relay."""
    operation: str = "upsert"
    api: str = "v2"
    service: str | None = None
    service_path: str | None = None
    context: str | None = None
    """NGSI-LD: address of the @context, or the @context itself as JSON."""
    gateway: str | None = None
    attrs_format: str = "normalized"
    """What the column `attrs` holds: `normalized` or `keyValues`."""
    text_type: str = "Text"
    """NGSIv2: the attribute type of text columns, or `TextUnrestricted`."""
    ignore_null_fields: bool = True
    """Leave an attribute out whose column is null; else it is written as null."""
    skip_bad_rows: bool = False
    stage_bytes: int = STAGE_BYTES
    txn: tuple[str, int] | None = None
    """Batch writes only: `txnAppId` and `txnVersion`, under which a repeat is known."""

    @staticmethod
    def from_options(options: Mapping[str, str]) -> WriteOptions:
        """Read and check a job's options; raises `OptionError`."""
        accesses = tuple(Access.from_options(options))
        options = {name.lower(): value for name, value in options.items()}
        api = _one_of(options, "api", APIS)
        context = options.get("context")
        if api == "ld" and "servicepath" in options:
            raise OptionError('NGSI-LD has no service path: leave the option "servicePath" out')
        if api == "v2" and context is not None:
            raise OptionError('the option "context" is NGSI-LD\'s: .option("api", "ld")')
        ignore_null = _flag(options, "ignoreNullFields", default=True)
        if api == "ld" and not ignore_null:
            raise OptionError(
                "NGSI-LD has no null values: leave the option ignoreNullFields out, or delete "
                "the attribute with a raw request"
            )
        return WriteOptions(
            accesses=accesses,
            operation=_one_of(options, "operation", OPERATIONS),
            api=api,
            service=options.get("service"),
            service_path=options.get("servicepath"),
            context=None if context is None else checked_context(context),
            gateway=options.get("gateway"),
            attrs_format=_one_of(options, "attrsFormat", ("normalized", "keyValues")),
            text_type=_one_of(options, "textType", ("Text", "TextUnrestricted")),
            ignore_null_fields=ignore_null,
            skip_bad_rows=_one_of(options, "onBadRow", ("fail", "skip")) == "skip",
            stage_bytes=_size(options, "stageBytes", STAGE_BYTES),
            txn=_txn(options),
        )


def checked_context(context: str) -> str:
    """Give an @context that is an address or JSON; raises `OptionError`."""
    text = context.strip()
    if text.startswith(("{", "[")):
        try:
            json.loads(text)
        except ValueError as error:
            raise OptionError(f'the option "context" is no JSON: {error}') from None
    elif not re.fullmatch(r"https?://[^\s<>]+", text):
        raise OptionError(f'{text!r} in the option "context" is neither an http address nor JSON')
    return text


def _one_of(options: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    given = options.get(name.lower(), allowed[0])
    for value in allowed:
        if given.lower() == value.lower():
            return value
    raise OptionError(f'the option "{name}" is one of {", ".join(allowed)}; it was {given!r}')


def _flag(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    return _one_of(options, name, ("true", "false") if default else ("false", "true")) == "true"


def _size(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name.lower(), str(default))
    if not text.isdigit() or int(text) == 0:
        raise OptionError(f'the option "{name}" is a number of bytes; it was {text!r}')
    return int(text)


def _txn(options: Mapping[str, str]) -> tuple[str, int] | None:
    application, version = options.get("txnappid"), options.get("txnversion")
    if application is None and version is None:
        return None
    if application is None or version is None:
        raise OptionError("the options txnAppId and txnVersion only go together")
    if not _TOKEN.fullmatch(application):
        raise OptionError("txnAppId is 1 to 128 of A-Z a-z 0-9 . _ : -")
    if not version.isdigit():
        raise OptionError(f"txnVersion is a whole number that grows; it was {version!r}")
    return application, int(version)
