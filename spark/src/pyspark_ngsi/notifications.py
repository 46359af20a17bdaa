"""Reading one notification of any form, in Python.

The usual forms never come here (see `batches`): this is for several entities in
one notification, GeoJSON, `values`, custom payloads and what cannot be read.
Attributes keep the text in which they were sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs


@dataclass
class Row:
    """What one row tells of its entity."""

    index: int = 0
    entity_id: str | None = None
    entity_type: str | None = None
    attrs: str | None = None
    problem: str | None = None


@dataclass
class Notification:
    """What was read; `rows` is never empty."""

    rows: list[Row]
    subscription_id: str | None = None
    version: str | None = None
    """`v2`, `ld`, or None where nothing tells."""
    notified_at: datetime | None = None


def read(body: str | None, headers: Mapping[str, str | None], path: str | None) -> Notification:
    """Read a notification; whatever is wrong with it stands in a row's `problem`.

    `headers` have names in lower case; `path` is with its query.
    """
    found = Notification([], _asked_subscription(path), _version_told(headers))
    try:
        return _read(body, found)
    except RecursionError:
        return _unreadable(found, "the body is nested too deeply")
    # Nothing that a notification may hold is worth a batch.
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        return _unreadable(found, clean(f"the notification cannot be read: {reason}"))


def _read(body: str | None, found: Notification) -> Notification:
    if body is None:
        return _unreadable(found, 'the body is not UTF-8; the option "raw" gives it as base64')
    if not body.strip():
        return _unreadable(found, "the body is empty")
    try:
        document = _DECODER.decode(body)
    except ValueError as error:
        return _unreadable(found, f"the body is no JSON: {error}")
    if not isinstance(document, dict):
        return _unreadable(found, "the body is JSON, but no notification and no entity")
    if isinstance(document.get("subscriptionId"), str):
        found.subscription_id = clean(document["subscriptionId"])
    if document.get("type") == "Notification" and found.version is None:
        found.version = "ld"
    found.notified_at = time_of(document.get("notifiedAt"))
    spans = {key: start for key, _, start, _ in _members(body, _skip(body, 0))}
    data = document.get("data")
    if isinstance(data, list) and ("subscriptionId" in document or "id" not in document):
        found.version = found.version or ("v2" if "subscriptionId" in document else None)
        elements = zip(data, _elements(body, spans["data"]))
        found.rows = [_row(body, i, *element) for i, element in enumerate(elements)]
    elif isinstance(data, dict) and isinstance(data.get("features"), list):
        features = {key: start for key, _, start, _ in _members(body, spans["data"])}
        elements = zip(data["features"], _elements(body, features["features"]))
        found.rows = [_feature(body, i, *element) for i, element in enumerate(elements)]
    elif isinstance(document.get("id"), str):
        found.rows = [_entity(body, 0, document, _skip(body, 0))]
    else:
        return _unreadable(found, 'the body is no notification: it has neither "data" nor "id"')
    if not found.rows:
        return _unreadable(found, "the notification holds no entity")
    return found


def time_of(text: Any) -> datetime | None:
    """Read an ISO 8601 time with its zone; None where it is none."""
    if not isinstance(text, str):
        return None
    # Before Python 3.11 only three or six digits of a second are read, and no Z.
    match = re.fullmatch(r"(.{19})(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)", text)
    if match is None:
        return None
    whole, part, zone = match.groups()
    zone = "+00:00" if zone == "Z" else zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    try:
        return datetime.fromisoformat(f"{whole}.{(part or '0')[:6]:0<6}{zone}")
    except ValueError:
        return None


def clean(text: str) -> str:
    """Make text that UTF-8 can hold: JSON may have half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)
_BLANK = re.compile(r"[ \t\r\n]*")


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _members(text: str, at: int) -> Iterator[tuple[str, int, int, int]]:
    """Give key, where it begins, where its value begins and ends, for an object at `at`.

    The text is valid JSON.
    """
    at = _skip(text, at + 1)
    while text[at] != "}":
        begin = at
        key, at = _DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, start)
        yield key, begin, start, end
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _elements(text: str, at: int) -> Iterator[int]:
    """Give where each element of an array at `at` begins."""
    at = _skip(text, at + 1)
    while text[at] != "]":
        yield at
        _, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _row(text: str, index: int, element: Any, at: int) -> Row:
    if isinstance(element, dict):
        return _entity(text, index, element, at)
    _, end = _DECODER.raw_decode(text, at)
    problem = (
        'attrsFormat "values" tells no ids and no names: attrs is the array of values'
        if isinstance(element, list)
        else "an element of data is no entity"
    )
    return Row(index, attrs=text[at:end] if isinstance(element, list) else None, problem=problem)


def _entity(text: str, index: int, entity: Mapping[str, Any], at: int) -> Row:
    kept = [
        text[begin:end]
        for key, begin, _, end in _members(text, at)
        if key not in ("id", "type", "@context")
    ]
    return _named(index, entity.get("id"), entity.get("type"), "{" + ",".join(kept) + "}")


def _feature(text: str, index: int, feature: Any, at: int) -> Row:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(properties, dict):
        return Row(index, problem="a feature without properties is no entity")
    # Of a name that stands there twice the last one counts, as for `json`.
    start = {key: start for key, _, start, _ in _members(text, at)}["properties"]
    row = _entity(text, index, properties, start)
    return _named(index, feature.get("id"), properties.get("type"), row.attrs)


def _named(index: int, entity_id: Any, entity_type: Any, attrs: str | None) -> Row:
    if isinstance(entity_type, list):
        entity_type = json.dumps(entity_type, ensure_ascii=False)
    is_named = isinstance(entity_id, str)
    return Row(
        index,
        clean(entity_id) if is_named else None,
        clean(entity_type) if isinstance(entity_type, str) else None,
        attrs,
        None if is_named else "the entity has no id",
    )


def _unreadable(found: Notification, problem: str) -> Notification:
    found.rows = [Row(problem=problem)]
    return found


def _version_told(headers: Mapping[str, str | None]) -> str | None:
    if headers.get("ngsild-attribute-format"):
        return "ld"
    return "v2" if headers.get("ngsiv2-attrsformat") else None


def _asked_subscription(path: str | None) -> str | None:
    # Not urlsplit, which takes the path "//[" for a host that is none.
    _, _, query = (path or "").partition("?")
    return parse_qs(query).get("subscriptionId", [None])[0]
