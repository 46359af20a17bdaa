"""Events as jobs of the PySpark Connector know them, made from records of a gateway."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

LD_VALUES = {
    "value": "Property",
    "object": "Relationship",
    "languageMap": "LanguageProperty",
    "vocab": "VocabProperty",
    "json": "JsonProperty",
    "valueList": "ListProperty",
    "objectList": "ListRelationship",
}
# Lists, for what is looked for may have no hash.
_LD_TYPES = [*LD_VALUES.values(), "GeoProperty"]
GEOMETRIES = [
    "Point",
    "MultiPoint",
    "LineString",
    "MultiLineString",
    "Polygon",
    "MultiPolygon",
]
_V2_TYPES = {str: "Text", bool: "Boolean", int: "Number", float: "Number", type(None): "None"}


class NotAnEvent(ValueError):
    """A notification with too little in it for an event: custom text, `values`, nothing."""


@dataclass
class NGSIAttribute:
    """An attribute: `metadata` is NGSIv2's, or the other members of an NGSI-LD one."""

    type: str
    value: Any
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class NGSIEntityv2:
    """An NGSIv2 entity; `attrs` by name."""

    id: str
    type: str
    attrs: dict[str, Any]


@dataclass
class NGSIEntityLD:
    """An NGSI-LD entity; `attrs` by name, a list where one has several instances."""

    id: str
    type: Any
    attrs: dict[str, Any]
    context: Any = None


@dataclass
class NGSIEventv2:
    """A notification; `creationtime` is when the gateway had it, UTC, without a zone."""

    creationtime: str
    service: str
    servicePath: str
    entities: list[NGSIEntityv2]


@dataclass
class NGSIEventLD:
    """A notification of an NGSI-LD broker; `service` is its tenant."""

    creationtime: str
    service: str
    servicePath: str
    entities: list[NGSIEntityLD]


def body_of(record: dict[str, Any]) -> bytes:
    """Give the body of a record (a line of the gateway's API), byte for byte."""
    if "body" in record:
        return record["body"].encode("utf-8", "surrogatepass")
    return base64.b64decode(record["body_base64"])


def event_of(record: dict[str, Any]) -> NGSIEventv2 | NGSIEventLD:
    """Make the event of a record, whatever `attrsFormat` it came in.

    Raises `NotAnEvent` where there are no entities with an id and a type in it.
    """
    try:
        return _event_of(record)
    except NotAnEvent:
        raise
    except RecursionError:
        raise NotAnEvent("it is nested too deeply") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # Nothing that a notification may hold is worth a batch.
        raise NotAnEvent(f"{type(error).__name__}: {error}") from error


def _event_of(record: dict[str, Any]) -> NGSIEventv2 | NGSIEventLD:
    try:
        body = json.loads(body_of(record))
    except ValueError:
        raise NotAnEvent("the body is no JSON") from None
    if not isinstance(body, dict):
        raise NotAnEvent("the body is no JSON object")
    headers = record["headers"]
    told = headers.get("ngsild-attribute-format")
    is_ld = told is not None or "ngsild-tenant" in headers or body.get("type") == "Notification"
    service = headers.get("fiware-service") or headers.get("ngsild-tenant") or ""
    path = headers.get("fiware-servicepath") or ""
    time = record["received"].rstrip("Z")
    found = _entities(body, headers.get("ngsiv2-attrsformat", ""))
    if is_ld:
        is_simplified = (told or "").lower() == "simplified"
        around = body.get("@context") or _linked_context(headers.get("link"))
        return NGSIEventLD(
            time, service, path, [_entity_ld(one, is_simplified, around) for one in found]
        )
    is_bare = headers.get("ngsiv2-attrsformat") in ("keyValues", "simplifiedKeyValues")
    return NGSIEventv2(time, service, path, [_entity_v2(one, is_bare) for one in found])


def _entities(body: dict[str, Any], told: str) -> list[dict[str, Any]]:
    is_wrapped = not told.startswith("simplified") and (
        "subscriptionId" in body or "id" not in body or body.get("type") == "Notification"
    )
    data = body.get("data") if is_wrapped else [body]
    if isinstance(data, dict):
        data = data.get("features", [data])
    if not isinstance(data, list):
        raise NotAnEvent("there are no entities in it")
    found = []
    for one in data:
        if isinstance(one, dict) and one.get("type") == "Feature" and "properties" in one:
            one = {"id": one.get("id"), **(one["properties"] or {})}
        if not isinstance(one, dict) or not one.get("id") or not one.get("type"):
            raise NotAnEvent("an entity in it has no id or no type")
        found.append(one)
    return found


def _entity_v2(entity: dict[str, Any], is_bare: bool) -> NGSIEntityv2:
    attributes = {
        name: _attribute_v2(value, is_bare)
        for name, value in entity.items()
        if name not in ("id", "type")
    }
    return NGSIEntityv2(entity["id"], entity["type"], attributes)


def _attribute_v2(value: Any, is_bare: bool) -> NGSIAttribute:
    if not is_bare and isinstance(value, dict):
        known = {"type", "value", "metadata"}
        if isinstance(value.get("type"), str) and "value" in value and value.keys() <= known:
            return NGSIAttribute(value["type"], value["value"], value.get("metadata") or {})
    return NGSIAttribute(_V2_TYPES.get(type(value), "StructuredValue"), value)


def _entity_ld(entity: dict[str, Any], is_simplified: bool, around: Any) -> NGSIEntityLD:
    attributes = {
        name: _attribute_ld(value, is_simplified)
        for name, value in entity.items()
        if name not in ("id", "type", "@context")
    }
    context = entity.get("@context", around)
    return NGSIEntityLD(entity["id"], entity["type"], attributes, context)


def _attribute_ld(value: Any, is_simplified: bool) -> Any:
    if isinstance(value, dict):
        holder = next((name for name in LD_VALUES if name in value), None)
        told = value.get("type")
        is_typed = told in _LD_TYPES
        if holder and (is_typed or not is_simplified or holder in ("languageMap", "vocab")):
            rest = {name: v for name, v in value.items() if name not in ("type", holder)}
            is_place = holder == "value" and _is_geometry(value["value"])
            kind = told if is_typed else "GeoProperty" if is_place else LD_VALUES[holder]
            return NGSIAttribute(kind, value[holder], rest)
    elif isinstance(value, list) and value and all(_is_instance(one) for one in value):
        return [_attribute_ld(one, False) for one in value]
    return NGSIAttribute("GeoProperty" if _is_geometry(value) else "Property", value)


def _is_instance(value: Any) -> bool:
    return isinstance(value, dict) and ("datasetId" in value or value.get("type") in _LD_TYPES)


def _is_geometry(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in GEOMETRIES and "coordinates" in value


def _linked_context(link: str | None) -> str | None:
    if link and "json-ld#context" in link and link.startswith("<"):
        return link[1:].split(">", 1)[0]
    return None
