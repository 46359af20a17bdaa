"""The entities in a notification's body, in every format of Orion and Orion-LD."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

_LINK = re.compile(r"<([^>]*)>[^,]*json-ld#context")


class Entity(NamedTuple):
    """One entity of a notification, or what is wrong with the notification."""

    index: int = 0
    id: str | None = None
    type: str | None = None
    """Several types of NGSI-LD are joined by commas."""
    attrs: str | None = None
    """JSON object of the attributes as they were sent, without id, type and @context."""
    problem: str | None = None


class Notification(NamedTuple):
    """What a notification says of itself, and its entities (at least one row)."""

    version: str | None
    """`v2` or `ld`; None where that cannot be told."""
    subscription: str | None
    notified_at: str | None
    """ISO 8601; NGSI-LD only."""
    context: str | None
    """NGSI-LD: the @context as JSON or its address, from the body or the header `Link`."""
    entities: list[Entity]


def read(body: str | None, headers: Mapping[str, str] | None = None) -> Notification:
    """Read a notification. Never fails: what cannot be read is one `Entity` with its problem.

    `headers` with their names in lower case, where they are known.
    """
    headers = headers or {}
    version = _version(headers)
    link = _LINK.search(headers.get("link", ""))
    context = link[1] if link else None
    try:
        document = json.loads(body or "", parse_constant=_no_constant, parse_float=_finite)
        return _read(document, headers, version, context)
    except (ValueError, RecursionError) as error:
        what = "the body is empty" if not body else f"the body is no JSON: {error}"
        if headers.get("ngsiv2-attrsformat") == "custom":
            what = f"a custom payload is no entity: {what}"
        return Notification(version, None, None, context, [Entity(problem=what)])


def _read(
    document: Any, headers: Mapping[str, str], version: str | None, context: str | None
) -> Notification:
    if isinstance(document, dict) and set(document) == {"metadata", "body"}:
        # Orion-LD's form on MQTT: the headers travel in the payload.
        inner = {str(k).lower(): str(v) for k, v in _items(document["metadata"])}
        return read(json.dumps(document["body"]), {**headers, **inner})
    bare = headers.get("ngsiv2-attrsformat", "").startswith("simplified")
    data, subscription, notified_at = document, None, None
    if isinstance(document, dict) and not bare and _is_notification(document):
        data = document.get("data", [])
        subscription = _text(document.get("subscriptionId"))
        notified_at = _text(document.get("notifiedAt"))
        if document.get("type") == "Notification":
            version = "ld"
            if "@context" in document:
                context = _context(document["@context"])
    if isinstance(data, dict) and data.get("type") == "FeatureCollection":
        data = data.get("features", [])
        version = version or "ld"
    listed = data if isinstance(data, list) else [data]
    if not listed:
        entities = [Entity(problem="the notification has no entities")]
    else:
        entities = [_entity(index, one, headers) for index, one in enumerate(listed)]
    if context is None and isinstance(data, dict) and "@context" in data:
        context = _context(data["@context"])
    if version is None and any(one.problem is None for one in entities):
        version = "ld" if context is not None else "v2"
    return Notification(version, subscription, notified_at, context, entities)


def _entity(index: int, given: Any, headers: Mapping[str, str]) -> Entity:
    if not isinstance(given, dict):
        format_ = headers.get("ngsiv2-attrsformat", "values" if isinstance(given, list) else "?")
        return Entity(
            index,
            problem=f"attrsFormat {format_} names neither entities nor attributes: "
            "subscribe with normalized or keyValues",
        )
    attributes = dict(given)
    if given.get("type") == "Feature" and isinstance(given.get("properties"), dict):
        attributes = {**given["properties"], "id": given.get("id")}
    identifier = _text(attributes.pop("id", attributes.pop("@id", None)))
    kind = attributes.pop("type", attributes.pop("@type", None))
    attributes.pop("@context", None)
    if identifier is None:
        return Entity(index, problem="an entity without an id")
    kind = ",".join(map(str, kind)) if isinstance(kind, list) else _text(kind)
    attrs = json.dumps(attributes, ensure_ascii=False, separators=(",", ":"))
    return Entity(index, identifier, kind, attrs)


def _is_notification(document: Mapping[str, Any]) -> bool:
    """Tell a notification from an entity, which may have an attribute called `data`."""
    return document.get("type") == "Notification" or (
        "data" in document and ("subscriptionId" in document or "type" not in document)
    )


def _version(headers: Mapping[str, str]) -> str | None:
    if "ngsild-attribute-format" in headers or "ngsild-tenant" in headers:
        return "ld"
    return "v2" if "ngsiv2-attrsformat" in headers else None


def _context(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given, separators=(",", ":"))


def _text(given: Any) -> str | None:
    return given if isinstance(given, str) else None


def _items(given: Any) -> Iterator[tuple[str, Any]]:
    return iter(given.items() if isinstance(given, dict) else ())


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text} is too large")
    return number
