"""Spark's values as JSON, and as attributes of NGSIv2 and NGSI-LD."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from pyspark.sql import types as t

from pyspark_ngsi.errors import OptionError

Convert = Callable[[Any], Any]


class BadValue(Exception):
    """A value that no NGSI request can hold; the text says why."""


def converter(name: str, kind: t.DataType) -> Convert:
    """Give the function that makes JSON of a column's values.

    Takes what Spark hands to a data source, as rows or by pyarrow's `to_pylist`.
    Raises `OptionError` for types that JSON has nothing for.
    """
    if isinstance(kind, (t.StringType, t.CharType, t.VarcharType, t.BooleanType, t.IntegralType)):
        return _as_it_is
    if isinstance(kind, (t.FloatType, t.DoubleType)):
        return _finite
    if isinstance(kind, t.DecimalType):
        return lambda value: int(value) if value == value.to_integral_value() else float(value)
    if isinstance(kind, t.TimestampType):
        return _moment
    if isinstance(kind, t.TimestampNTZType):
        # Without a zone it is taken for UTC: the same on every executor.
        return lambda value: _moment(value.replace(tzinfo=timezone.utc))
    if isinstance(kind, t.DateType):
        return lambda value: value.isoformat()
    if isinstance(kind, t.ArrayType):
        element = _nullable(converter(name, kind.elementType))
        return lambda value: [element(one) for one in value]
    if isinstance(kind, t.MapType):
        if not isinstance(kind.keyType, t.StringType):
            raise OptionError(f"the map in the column {name} must have strings as keys")
        inner = _nullable(converter(name, kind.valueType))
        return lambda value: {key: inner(one) for key, one in _pairs(value)}
    if isinstance(kind, t.StructType):
        return _struct(name, kind)
    if isinstance(kind, t.NullType):
        return lambda value: None
    if type(kind).__name__ == "VariantType":
        return _variant
    raise OptionError(
        f"the column {name} is {kind.simpleString()}, which is no JSON: cast it, or leave it out"
    )


def v2_type(kind: t.DataType, text_type: str) -> str:
    """Give the NGSIv2 attribute type of a column."""
    if isinstance(kind, (t.StringType, t.CharType, t.VarcharType)):
        return text_type
    if isinstance(kind, t.NumericType):
        return "Number"
    if isinstance(kind, t.BooleanType):
        return "Boolean"
    if isinstance(kind, (t.TimestampType, t.TimestampNTZType, t.DateType)):
        return "DateTime"
    if isinstance(kind, t.NullType):
        return "None"
    return "StructuredValue"


def ld_value(kind: t.DataType, value: Any) -> Any:
    """Give the `value` of an NGSI-LD Property."""
    if isinstance(kind, (t.TimestampType, t.TimestampNTZType)):
        return {"@type": "DateTime", "@value": value}
    if isinstance(kind, t.DateType):
        return {"@type": "Date", "@value": value}
    return value


def _as_it_is(value: Any) -> Any:
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise BadValue(f"{value} is no number in JSON")
    return value


def _moment(value: datetime) -> str:
    # Naive ones come from rows, in the local time of this machine.
    moment = value.astimezone(timezone.utc)
    precision = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def _nullable(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _pairs(value: Any) -> Any:
    return value.items() if isinstance(value, dict) else value


def _struct(name: str, kind: t.StructType) -> Convert:
    fields = [(f.name, _nullable(converter(name, f.dataType))) for f in kind.fields]

    def convert(value: Any) -> dict[str, Any]:
        # Rows are tuples in the order of the fields; Arrow gives dicts.
        values = value.values() if isinstance(value, dict) else value
        return {field: make(one) for (field, make), one in zip(fields, values)}

    return convert


def _variant(value: Any) -> Any:
    import json

    from pyspark.sql.types import VariantVal

    if isinstance(value, dict):
        value = VariantVal(value["value"], value["metadata"])
    return json.loads(value.toJson())
