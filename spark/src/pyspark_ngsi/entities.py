"""One row for each entity, from records that were read or kept whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame
from pyspark.sql import types as t

from pyspark_ngsi import notifications
from pyspark_ngsi.errors import OptionError

if TYPE_CHECKING:
    import pyarrow

_FROM_LINE = ("service", "servicePath", "correlator")
_FROM_BODY = ("subscriptionId", "ngsiVersion", "notifiedAt")
_LINK = re.compile(r"<([^>]*)>[^,]*json-ld#context")
_OF_ENTITY = ("entityId", "entityType", "entityIndex", "attrs", "context", "problem")


def entities(df: DataFrame) -> DataFrame:
    """Give one row for each entity of each notification.

    `df` has a column `line` (read with the option `raw`), or a column `body` with
    notifications as text, for example from an archive, and perhaps `headers` (a
    map, names in lower case). Other columns are kept; in place of those come
    `service`, `servicePath`, `correlator` (from a line), `subscriptionId`,
    `ngsiVersion`, `notifiedAt`, `entityId`, `entityType`, `entityIndex` (its place
    in the notification, from 0), `attrs` (JSON), `context` (NGSI-LD's @context or
    its address) and `problem`: what cannot be read is one row that says why.

    It is for records that are kept whole: `format("ngsi")` without `raw` gives
    such rows by itself, and faster. This one runs in Python, in Arrow batches.
    """
    if "line" not in df.columns and "body" not in df.columns:
        raise OptionError(
            "entities(df) needs a column line (the option raw) or body; these rows have "
            f"{', '.join(df.columns)}. What format('ngsi') reads without raw are entities already"
        )
    whole = "line" in df.columns
    made = (*(_FROM_LINE if whole else ()), *_FROM_BODY, *_OF_ENTITY)
    replaced = {"line", "body", "headers", *made}
    kept = [field for field in df.schema.fields if field.name not in replaced]
    read = [name for name in ("line", "body", "headers") if name in df.columns]
    wanted = [*(field.name for field in kept), *(read[:1] if whole else read)]
    fields = [*kept, *(t.StructField(name, _type(name)) for name in made)]

    def each(batches: Iterator[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        for batch in batches:
            yield _expand(batch, [field.name for field in kept], made, whole)

    return df.select(*wanted).mapInArrow(each, t.StructType(fields))


def _type(name: str) -> t.DataType:
    others = {"entityIndex": t.IntegerType(), "notifiedAt": t.TimestampType()}
    return others.get(name, t.StringType())


def _expand(
    batch: pyarrow.RecordBatch, kept: list[str], made: tuple[str, ...], whole: bool
) -> pyarrow.RecordBatch:
    import pyarrow as pa

    places: list[int] = []
    columns: dict[str, list[Any]] = {name: [] for name in made}
    for place, line in enumerate(_lines(batch) if whole else _bodies(batch)):
        body, headers = line.get("body"), line.get("headers") or {}
        told = notifications.read(body, headers, line.get("path"))
        about = {
            "service": headers.get("fiware-service") or headers.get("ngsild-tenant"),
            "servicePath": headers.get("fiware-servicepath"),
            "correlator": headers.get("fiware-correlator"),
            "subscriptionId": told.subscription_id,
            "ngsiVersion": told.version,
            "notifiedAt": told.notified_at,
            "context": _context(body, headers),
        }
        for row in told.rows:
            places.append(place)
            about |= {
                "entityId": row.entity_id,
                "entityType": row.entity_type,
                "entityIndex": row.index,
                "attrs": row.attrs,
                "problem": line.get("problem") or row.problem,
            }
            for name, values in columns.items():
                values.append(about[name])
    rows = batch.select(kept).take(pa.array(places, pa.int64())) if kept else None
    arrays = list(rows.columns) if rows is not None else []
    types = {"entityIndex": pa.int32(), "notifiedAt": pa.timestamp("us", tz="UTC")}
    arrays += [pa.array(values, types.get(name, pa.string())) for name, values in columns.items()]
    return pa.RecordBatch.from_arrays(arrays, names=[*kept, *made])


def _context(body: str | None, headers: Mapping[str, Any]) -> str | None:
    """Give the @context that the body holds, or the header Link names."""
    if body and '"@context"' in body:
        try:
            found = _context_in(json.loads(body))
        except (ValueError, RecursionError):
            found = None
        if found is not None:
            text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
            return notifications.clean(text)
    link = _LINK.search(headers.get("link") or "")
    return link[1] if link else None


def _context_in(document: Any) -> Any:
    while isinstance(document, dict) and "@context" not in document:
        document = document.get("data")
        # With a context of its own each entity has the same one.
        document = document[0] if isinstance(document, list) and document else document
    return document.get("@context") if isinstance(document, dict) else None


def _bodies(batch: pyarrow.RecordBatch) -> Iterator[dict[str, Any]]:
    bodies = batch.column("body").to_pylist()
    headers: list[Any] = [None] * len(bodies)
    if "headers" in batch.schema.names:
        headers = batch.column("headers").to_pylist()
    for body, given in zip(bodies, headers):
        yield {"body": body, "headers": {name.lower(): value for name, value in given or ()}}


def _lines(batch: pyarrow.RecordBatch) -> Iterator[dict[str, Any]]:
    for text in batch.column("line").to_pylist():
        try:
            line = json.loads(text)
            headers = line.get("headers") or {}
            yield {**line, "headers": {str(k): str(v) for k, v in headers.items()}}
        except (TypeError, ValueError, AttributeError) as error:
            yield {"problem": f"the line is none of the gateway's: {error}"}
