"""The columns of a read record, and which of them a job asked for.

One row is one entity of a notification; `(gateway, stream, epoch, seq, entityIndex)`
is its key. With `raw` one row is one record as the gateway keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pyspark_ngsi.errors import OptionError

_SPARK_TYPES = {
    pa.string(): "string",
    pa.int64(): "long",
    pa.int32(): "int",
    pa.timestamp("us", tz="UTC"): "timestamp",
}
_TIME = pa.timestamp("us", tz="UTC")

PLACE: dict[str, pa.DataType] = {
    "gateway": pa.string(),
    "stream": pa.string(),
    "epoch": pa.string(),
    "seq": pa.int64(),
    "received": _TIME,
}
ENTITY: dict[str, pa.DataType] = {
    **PLACE,
    "service": pa.string(),
    "servicePath": pa.string(),
    "subscriptionId": pa.string(),
    "ngsiVersion": pa.string(),
    "notifiedAt": _TIME,
    "correlator": pa.string(),
    "entityId": pa.string(),
    "entityType": pa.string(),
    "entityIndex": pa.int32(),
    "attrs": pa.string(),
    "problem": pa.string(),
}
WITH_BODY: dict[str, pa.DataType] = {**ENTITY, "body": pa.string()}
RAW: dict[str, pa.DataType] = {**PLACE, "line": pa.string()}


@dataclass(frozen=True)
class Columns:
    """The columns of a job, in their order."""

    names: tuple[str, ...]
    raw: bool = False
    """Records as lines: nothing of their bodies is read."""

    @staticmethod
    def from_options(options: Mapping[str, str]) -> Columns:
        """Read the options `raw`, `body` and `columns` (names in lower case)."""
        raw, body = flag(options, "raw"), flag(options, "body")
        if raw and body:
            raise OptionError('the options "raw" and "body" exclude each other: a raw line has it')
        there = RAW if raw else WITH_BODY if body else ENTITY
        asked = options.get("columns")
        if asked is None:
            return Columns(tuple(there), raw)
        known = {name.lower(): name for name in (RAW if raw else WITH_BODY)}
        names: list[str] = []
        for name in (name.strip() for name in asked.split(",")):
            if name.lower() not in known:
                raise OptionError(
                    f'"{name}" in the option "columns" is no column; there are '
                    + ", ".join(known.values())
                )
            if known[name.lower()] not in names:
                names.append(known[name.lower()])
        return Columns(tuple(names), raw)

    @property
    def arrow(self) -> pa.Schema:
        """The schema of the batches that Spark is given."""
        types = RAW if self.raw else WITH_BODY
        return pa.schema([(name, types[name]) for name in self.names])

    @property
    def ddl(self) -> str:
        """The schema in Spark's words."""
        return ddl(self.names, self.arrow.types)


def ddl(names: Sequence[str], types: Sequence[pa.DataType]) -> str:
    """Write a schema as Spark reads it: `a string, b long`."""
    return ", ".join(f"{n} {_SPARK_TYPES[t]}" for n, t in zip(names, types))


def flag(options: Mapping[str, str], name: str, default: bool = False) -> bool:
    """Read an option that is `true` or `false`; `name` as users write it."""
    text = options.get(name.lower())
    if text is None:
        return default
    if text.strip().lower() not in ("true", "false"):
        raise OptionError(f'the option "{name}" is true or false, not "{text}"')
    return text.strip().lower() == "true"
