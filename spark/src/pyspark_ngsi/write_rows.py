"""Rows of a DataFrame as requests for Orion, one for each row.

One request for each row, and not a batch of many: a request on one entity waits
for no other entity, is repeated without harm, and is alone in the dead letters
where Orion refuses it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pyspark.sql import types as t

from pyspark_ngsi.errors import OptionError
from pyspark_ngsi.write_options import OPERATIONS, WriteOptions, checked_context
from pyspark_ngsi.write_values import BadValue, converter, ld_value, v2_type

# What a column says besides the attributes; the reader's names are understood.
_CONTROL = {
    "id": "id",
    "entityId": "id",
    "type": "type",
    "entityType": "type",
    "operation": "operation",
    "service": "service",
    "servicePath": "servicePath",
    "context": "context",
    "gateway": "gateway",
}
_RAW = {"method", "path", "body", "headers", "gateway", "service", "servicePath"}
_WRITES = ("POST", "PUT", "PATCH", "DELETE")
_NOT_ATTRIBUTES = ("id", "type", "@id", "@type", "@context")
_LINK = '<{}>; rel="http://www.w3.org/ns/json-ld#context"; type="application/ld+json"'


class RowEncoder:
    """Makes the gateway's JSON lines of rows; raises `OptionError` on a schema it cannot use."""

    def __init__(self, schema: t.StructType, options: WriteOptions) -> None:
        self.names = schema.names
        self.options = options
        self.raw = "method" in self.names and "path" in self.names
        self.places: dict[str, int] = {}
        self.attributes: list[tuple[int, str, t.DataType, Any, str]] = []
        if self.raw:
            self._plan_raw(schema)
        else:
            self._plan_entities(schema)

    def encode(self, row: Sequence[Any]) -> tuple[str | None, bytes]:
        """Give the gateway that a row is for (None: the only one), and its line with LF.

        Raises `BadValue` where the row can be no write.
        """
        gateway = self._text(row, "gateway") or self.options.gateway
        request = self._raw_request(row) if self.raw else self._entity_request(row)
        method, path, headers, body = request
        named = json.dumps({"method": method, "path": path, "headers": headers})
        line = f'{named[:-1]}, "body": {body}}}\n' if body else f"{named}\n"
        try:
            return gateway, line.encode()
        except UnicodeEncodeError as error:
            raise BadValue(f"a text is no Unicode: {error}") from None

    def describe(self, row: Sequence[Any]) -> str:
        """Show a row in a message, cut where it is long."""
        text = ", ".join(f"{name}={value!r}" for name, value in zip(self.names, row))
        return text if len(text) <= 500 else f"{text[:500]}…"

    def _plan_raw(self, schema: t.StructType) -> None:
        for place, field in enumerate(schema.fields):
            if field.name not in _RAW:
                raise OptionError(
                    f"the columns method and path make raw requests; {field.name} has no place "
                    f"in one: select only {', '.join(sorted(_RAW))}"
                )
            text_map = t.MapType(t.StringType(), t.StringType())
            expected = text_map if field.name == "headers" else t.StringType()
            if not _fits(field.dataType, expected):
                raise OptionError(
                    f"the column {field.name} must be {expected.simpleString()}, "
                    f"it is {field.dataType.simpleString()}"
                )
            self.places[field.name] = place

    def _plan_entities(self, schema: t.StructType) -> None:
        for place, field in enumerate(schema.fields):
            role = "attrs" if field.name == "attrs" else _CONTROL.get(field.name)
            if role is None:
                kind = field.dataType
                v2 = v2_type(kind, self.options.text_type)
                convert = converter(field.name, kind)
                self.attributes.append((place, field.name, kind, convert, v2))
            elif not isinstance(field.dataType, t.StringType):
                raise OptionError(f"the column {field.name} must be text (attrs: JSON)")
            elif role in self.places:
                raise OptionError(f"two columns say the {role} of the entity: select one")
            else:
                self.places[role] = place
        if "id" not in self.places:
            raise OptionError(
                "the DataFrame needs a column id (or entityId) with the entity's id, "
                "or the columns method and path for raw requests"
            )
        if "attrs" in self.places and self.attributes:
            surplus = ", ".join(name for _, name, *_ in self.attributes)
            raise OptionError(
                f"with a column attrs no other column is an attribute: leave out {surplus}"
            )

    def _text(self, row: Sequence[Any], role: str) -> str | None:
        place = self.places.get(role)
        return None if place is None else row[place]

    def _raw_request(self, row: Sequence[Any]) -> tuple[str, str, dict[str, str], str]:
        method, path = self._text(row, "method"), self._text(row, "path")
        if method not in _WRITES:
            raise BadValue(f"the method {method} is none of {', '.join(_WRITES)}")
        if path is None or not path.startswith(("/v2/", "/ngsi-ld/v1/")):
            raise BadValue(f"the path {path} begins neither with /v2/ nor with /ngsi-ld/v1/")
        given = self._text(row, "headers") or {}
        pairs = given.items() if isinstance(given, Mapping) else given
        headers = {name: value for name, value in pairs if value is not None}
        tenant = "Fiware-Service" if path.startswith("/v2/") else "NGSILD-Tenant"
        known = {name.lower() for name in headers}
        for name, value in (
            (tenant, self._text(row, "service") or self.options.service),
            ("Fiware-ServicePath", self._text(row, "servicePath") or self.options.service_path),
        ):
            if value and name.lower() not in known:
                headers[name] = value
        body = self._text(row, "body")
        return method, path, headers, "" if body is None else json.dumps(body)

    def _entity_request(self, row: Sequence[Any]) -> tuple[str, str, dict[str, str], str]:
        options = self.options
        entity = self._text(row, "id")
        if not entity or entity in (".", ".."):
            raise BadValue("it has no id of an entity")
        operation = (self._text(row, "operation") or options.operation).lower()
        if operation not in OPERATIONS:
            raise BadValue(f"the operation {operation} is none of {', '.join(OPERATIONS)}")
        kind = self._text(row, "type")
        attributes = "" if operation == "delete" else self._attributes(row)
        if not attributes and operation in ("update", "append"):
            raise BadValue(f"it has no attribute to {operation}")
        make = _v2_request if options.api == "v2" else _ld_request
        key_values = options.attrs_format == "keyValues" and "attrs" in self.places
        method, path, members = make(operation, entity, kind, key_values)
        headers = self._headers(row)
        context = self._context(row)
        if context and context.startswith(("{", "[")):
            # A DELETE has no body to put it into, and no name in it to expand.
            if members is not None:
                members += f',"@context": {_one_line(context)}'
                headers["Content-Type"] = "application/ld+json"
        elif context:
            headers["Link"] = _LINK.format(context)
        if members is None:
            return method, path, headers, ""
        body = "{" + ",".join(part for part in (members.lstrip(","), attributes) if part) + "}"
        return method, path, headers, f"[{body}]" if path.startswith(_LD_UPSERT) else body

    def _context(self, row: Sequence[Any]) -> str | None:
        given = self._text(row, "context") if self.options.api == "ld" else None
        try:
            return self.options.context if given is None else checked_context(given)
        except OptionError as error:
            raise BadValue(str(error)) from None

    def _headers(self, row: Sequence[Any]) -> dict[str, str]:
        service = self._text(row, "service") or self.options.service
        if self.options.api == "ld":
            return {"NGSILD-Tenant": service} if service else {}
        path = self._text(row, "servicePath") or self.options.service_path
        headers = {"Fiware-Service": service, "Fiware-ServicePath": path}
        return {name: value for name, value in headers.items() if value}

    def _attributes(self, row: Sequence[Any]) -> str:
        """Give the members of the attributes, as they stand between the braces."""
        if "attrs" in self.places:
            return _members(self._text(row, "attrs"))
        made = {}
        for place, name, kind, convert, v2 in self.attributes:
            value = row[place]
            if value is None and self.options.ignore_null_fields:
                continue
            try:
                value = None if value is None else convert(value)
            except (BadValue, ValueError, OverflowError) as error:
                raise BadValue(f"the column {name}: {error}") from None
            if self.options.api == "v2":
                made[name] = {"value": value, "type": "None" if value is None else v2}
            else:
                made[name] = {"type": "Property", "value": ld_value(kind, value)}
        try:
            return json.dumps(made, allow_nan=False)[1:-1]
        except ValueError as error:
            raise BadValue(str(error)) from None


def _fits(kind: t.DataType, expected: t.DataType) -> bool:
    if isinstance(expected, t.MapType):
        inner = (kind.keyType, kind.valueType) if isinstance(kind, t.MapType) else ()
        return bool(inner) and all(isinstance(one, t.StringType) for one in inner)
    return isinstance(kind, type(expected))


def _members(text: str | None) -> str:
    """Give what stands between the braces of a JSON object, in its own spelling."""
    if text is None:
        return ""
    try:
        parsed = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadValue(f"attrs is no JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise BadValue("attrs is no JSON object")
    for name in _NOT_ATTRIBUTES:
        if name in parsed:
            raise BadValue(f"attrs holds {name}, which has a column of its own")
    return _one_line(text.strip())[1:-1].strip()


def _no_constant(name: str) -> float:
    raise BadValue(f"{name} is no JSON")


def _one_line(text: str) -> str:
    # Valid JSON has line ends only between its parts: a line is a write-back.
    return text.replace("\r", " ").replace("\n", " ")


def _members_of(**named: str | None) -> str:
    return ",".join(
        f"{json.dumps(name)}: {json.dumps(value)}" for name, value in named.items() if value
    )


def _query(**parameters: str | None) -> str:
    given = [f"{name}={quote(value, safe=',')}" for name, value in parameters.items() if value]
    return f"?{'&'.join(given)}" if given else ""


def _v2_request(
    operation: str, entity: str, kind: str | None, key_values: bool
) -> tuple[str, str, str | None]:
    """Give method, path, and what the body holds besides the attributes (None: no body)."""
    form = "keyValues" if key_values else ""
    if operation == "upsert":
        options = ",".join(filter(None, (form, "upsert")))
        return "POST", f"/v2/entities{_query(options=options)}", _members_of(id=entity, type=kind)
    one = f"/v2/entities/{quote(entity, safe=':')}"
    if operation == "delete":
        return "DELETE", one + _query(type=kind), None
    method = {"update": "PATCH", "append": "POST", "replace": "PUT"}[operation]
    return method, f"{one}/attrs{_query(type=kind, options=form)}", ""


_LD_UPSERT = "/ngsi-ld/v1/entityOperations/upsert"


def _ld_request(
    operation: str, entity: str, kind: str | None, key_values: bool
) -> tuple[str, str, str | None]:
    """As `_v2_request`. NGSI-LD has no upsert of one entity: it is a batch of one."""
    form = "keyValues" if key_values else ""
    if ":" not in entity:
        raise BadValue(f"the id {entity} is no URI, as NGSI-LD wants it (urn:ngsi-ld:Press:1)")
    if not kind and operation in ("upsert", "replace"):
        raise BadValue(f"NGSI-LD wants the entity's type to {operation} it")
    if operation == "upsert":
        options = ",".join(filter(None, ("update", form)))
        return "POST", _LD_UPSERT + _query(options=options), _members_of(id=entity, type=kind)
    one = f"/ngsi-ld/v1/entities/{quote(entity, safe=':')}"
    if operation == "delete":
        return "DELETE", one, None
    if operation == "replace":
        return "PUT", one + _query(options=form), _members_of(id=entity, type=kind)
    method = {"update": "PATCH", "append": "POST"}[operation]
    return method, f"{one}/attrs{_query(options=form)}", ""
