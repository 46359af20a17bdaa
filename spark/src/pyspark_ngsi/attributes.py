"""Attributes of an entity as columns, whatever format the subscription sends.

All of it are Spark's own expressions on the column `attrs`: nothing runs in
Python, and what cannot be read is null and never an error.

What tells the formats apart is the attribute itself: in NGSIv2 `normalized` it
has a `type` and a `value` or `metadata`, in NGSI-LD (normalized and concise) a
`value`, `object`, `languageMap`, `json`, `vocab`, `valueList` or `objectList`.
A value in a simplified format that is itself such an object cannot be told from
that, nor a text value that holds such JSON: read those with `get_json_object`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Union

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f
from pyspark.sql import types as t

Source = Union[DataFrame, Column, str]
"""A DataFrame with the column `attrs` (and `ngsiVersion`), or that column itself."""

# Where NGSI-LD keeps what other kinds of attributes have in `value`.
_LD_VALUES = ("object", "languageMap", "json", "vocab", "valueList", "objectList")


def attr(
    source: Source, name: str, type: str = "string", *, dataset_id: str | None = None
) -> Column:
    """Give an attribute's value as a column of a Spark type.

    `type` is a type as in SQL: `double`, `boolean`, `timestamp`, `array<double>`,
    `struct<lat: double, lon: double>`, `map<string, string>`; `string` gives a
    text as it is, and anything else as JSON. Null where the entity has no such
    attribute, its value is null, or is nothing of that type.

    Of a Relationship it is the `object`, of a LanguageProperty the `languageMap`,
    of a GeoProperty the GeoJSON. Where NGSI-LD sends several instances with a
    `datasetId` it is the one of `dataset_id`, by default the one without a
    datasetId, or else the first.
    """
    v2 = _is_v2(source)
    return as_type(_once(_attribute(source, name, dataset_id), lambda one: _value(one, v2)), type)


def attr_type(source: Source, name: str) -> Column:
    """Give an attribute's type (`Number`, `Property`, …); null in simplified formats."""
    return _part(_attribute(source, name, None), "type")


def attr_metadata(source: Source, name: str, item: str, type: str = "string") -> Column:
    """Give what an attribute says beside its value.

    In NGSIv2 the value of a metadata item, in NGSI-LD a member of the attribute
    (`unitCode`, `datasetId`) or the value of an attribute of the attribute.
    """
    own = _checked(item)

    def read(attribute: Column) -> Column:
        found = f.coalesce(
            f.get_json_object(attribute, f"$['metadata']['{own}']['value']"),
            f.get_json_object(attribute, f"$['{own}']['value']"),
            f.get_json_object(attribute, f"$['{own}']['object']"),
            _part(attribute, own),
        )
        return f.when(attribute.startswith("{"), found)

    return as_type(_once(_attribute(source, name, None), read), type)


def observed_at(source: Source, name: str) -> Column:
    """Give when a value was observed: NGSI-LD's `observedAt`, NGSIv2's `TimeInstant`."""
    return f.coalesce(
        attr_metadata(source, name, "observedAt", "timestamp"),
        attr_metadata(source, name, "TimeInstant", "timestamp"),
    )


def unit_code(source: Source, name: str) -> Column:
    """Give a value's unit, a UN/CEFACT code such as `CEL`; of either API."""
    return attr_metadata(source, name, "unitCode")


def as_type(text: Column, type: str) -> Column:
    """Read JSON or plain text as a Spark type; null where it is none."""
    kind = t._parse_datatype_string(type)
    if isinstance(kind, t.StringType):
        return text
    if isinstance(kind, (t.StructType, t.ArrayType, t.MapType)):
        return f.from_json(text, kind)
    if isinstance(kind, (t.TimestampType, t.TimestampNTZType, t.DateType)):
        # NGSI-LD may wrap it: {"@type": "DateTime", "@value": "…"}.
        text = f.coalesce(f.get_json_object(text, "$['@value']"), text)
    # Since 4.0, where a cast that fails would end the query; 3.5 gives null.
    return text.try_cast(kind) if hasattr(Column, "try_cast") else text.cast(kind)


def _attribute(source: Source, name: str, dataset_id: str | None) -> Column:
    """Give an attribute as it was sent; of several instances the one that is asked for."""
    member = f.get_json_object(_attrs(source), f"$['{_checked(name)}']")
    return _once(member, lambda text: _instance(text, dataset_id))


def _once(text: Column, read: Callable[[Column], Column]) -> Column:
    """Read `text` many times, but work it out once.

    Catalyst does not share what stands in the branches of a CASE; the variable of
    a lambda has its value. A third cheaper on normalized
    attributes (10 or 11 CPU s per million instead of 15).
    """
    return f.transform(f.array(text), read).getItem(0)


def _value(attribute: Column, v2: Column | None) -> Column:
    # A simplified value is the attribute itself; most do not begin like an object.
    normalized, null = _part(attribute, "value"), _part(attribute, "metadata").isNotNull()
    typed = _part(attribute, "type").isNotNull()
    ld = f.coalesce(*(_part(attribute, one) for one in _LD_VALUES), _part(attribute, "value"))
    is_ld = ld.isNotNull() if v2 is None else ~v2 & ld.isNotNull()
    return (
        f.when(~attribute.startswith("{"), attribute)
        .when(typed & normalized.isNotNull(), normalized)
        .when(typed & null, f.lit(None))
        .when(is_ld, ld)
        .otherwise(attribute)
    )


def _instance(attribute: Column, dataset_id: str | None) -> Column:
    instances = f.from_json(attribute, "array<string>")

    def dataset(instance: Column) -> Column:
        return f.get_json_object(instance, "$.datasetId")

    several = attribute.startswith("[") & f.exists(instances, lambda one: dataset(one).isNotNull())
    if dataset_id is None:
        default = f.filter(instances, lambda one: dataset(one).isNull())
        chosen = f.coalesce(_first(default), _first(instances))
        return f.when(several, chosen).otherwise(attribute)
    named = _first(f.filter(instances, lambda one: dataset(one) == dataset_id))
    alone = attribute.startswith("{") & (dataset(attribute) == dataset_id)
    return f.when(several, named).when(alone, attribute)


def _first(texts: Column) -> Column:
    # Not `get`, which 3.5 cannot resolve on what a lambda gives.
    return f.when(f.size(texts) > 0, texts.getItem(0))


def _part(attribute: Column, member: str) -> Column:
    return f.get_json_object(attribute, f"$['{member}']")


def _attrs(source: Source) -> Column:
    if isinstance(source, DataFrame):
        return source["attrs"]
    return f.col(source) if isinstance(source, str) else source


def _is_v2(source: Source) -> Column | None:
    if isinstance(source, DataFrame) and "ngsiVersion" in source.columns:
        return f.coalesce(source["ngsiVersion"] == "v2", f.lit(False))
    return None


def _checked(name: str) -> str:
    if not name or set(name) & set("'?*"):
        raise ValueError(f"{name!r} is no name of an attribute: it is empty, or has ' ? or * in it")
    return name
