"""One row for each entity, from records that were read or kept whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as f
from pyspark.sql import types as t

from pyspark_ngsi import notification
from pyspark_ngsi.errors import OptionError

if TYPE_CHECKING:
    import pyarrow

_FROM_LINE = ("service", "servicePath", "correlator")
_FROM_BODY = ("subscriptionId", "ngsiVersion", "notifiedAt")
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

    rows = df.select(*wanted).mapInArrow(each, t.StructType(fields))
    # Of any zone in the text; what is no time is null.
    moment = f.col("notifiedAt")
    moment = (
        moment.try_cast("timestamp") if hasattr(moment, "try_cast") else moment.cast("timestamp")
    )
    return rows.withColumn("notifiedAt", moment)


def _type(name: str) -> t.DataType:
    return t.IntegerType() if name == "entityIndex" else t.StringType()


def _expand(
    batch: pyarrow.RecordBatch, kept: list[str], made: tuple[str, ...], whole: bool
) -> pyarrow.RecordBatch:
    import pyarrow as pa

    places: list[int] = []
    columns: dict[str, list[Any]] = {name: [] for name in made}
    for place, (body, headers, problem) in enumerate(_whole(batch) if whole else _bodies(batch)):
        told = notification.read(body, headers)
        about = {
            "service": headers.get("fiware-service") or headers.get("ngsild-tenant"),
            "servicePath": headers.get("fiware-servicepath"),
            "correlator": headers.get("fiware-correlator"),
            "subscriptionId": told.subscription,
            "ngsiVersion": told.version,
            "notifiedAt": told.notified_at,
            "context": told.context,
        }
        for one in told.entities:
            places.append(place)
            about |= {
                "entityId": one.id,
                "entityType": one.type,
                "entityIndex": one.index,
                "attrs": one.attrs,
                "problem": problem or one.problem,
            }
            for name, values in columns.items():
                values.append(about[name])
    rows = batch.select(kept).take(pa.array(places, pa.int64())) if kept else None
    arrays = list(rows.columns) if rows is not None else []
    for name, values in columns.items():
        arrays.append(pa.array(values, pa.int32() if name == "entityIndex" else pa.string()))
    return pa.RecordBatch.from_arrays(arrays, names=[*kept, *made])


def _bodies(batch: pyarrow.RecordBatch) -> Iterator[tuple[str | None, dict[str, str], None]]:
    bodies = batch.column("body").to_pylist()
    headers: list[Any] = [None] * len(bodies)
    if "headers" in batch.schema.names:
        headers = batch.column("headers").to_pylist()
    for body, given in zip(bodies, headers):
        yield body, {name.lower(): value or "" for name, value in given or ()}, None


def _whole(batch: pyarrow.RecordBatch) -> Iterator[tuple[str | None, dict[str, str], str | None]]:
    for text in batch.column("line").to_pylist():
        try:
            line = json.loads(text)
            headers = {str(k): str(v) for k, v in line.get("headers", {}).items()}
        except (TypeError, ValueError, AttributeError) as error:
            yield None, {}, f"the line is none of the gateway's: {error}"
            continue
        problem = "the body is not UTF-8" if "body_base64" in line else None
        yield line.get("body"), headers, problem
