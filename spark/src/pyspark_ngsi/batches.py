"""Records as the gateway keeps them (JSON lines, zstd) to Arrow batches.

The body of a record is JSON in a JSON string, and `attrs` is to be the text of
one entity in it, as it was sent. What Arrow does here for a whole answer at once,
Python would do at three times the cost for each record:

1. a regular expression knows the head of a notification of one entity, and takes
   it and the last brackets off: what is left is the text of `attrs`;
2. Arrow's JSON parser, asked for no column, tells whether each such text is one
   valid object. Only then was the notification one entity and nothing behind it.

All others (several entities, GeoJSON, custom payloads, what is no JSON) go
through `notifications`, one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from pyspark_ngsi import notifications
from pyspark_ngsi.errors import GatewayError
from pyspark_ngsi.schema import WITH_BODY, Columns

_HEADERS = (
    "fiware-service",
    "fiware-servicepath",
    "fiware-correlator",
    "ngsiv2-attrsformat",
    "ngsild-attribute-format",
    "ngsild-tenant",
)
_TIME = pa.timestamp("us", tz="UTC")
_PLACE = pa.schema([("seq", pa.int64()), ("received", _TIME)])
_LINE = pa.schema(
    [
        *_PLACE,
        ("path", pa.string()),
        ("headers", pa.struct([(name, pa.string()) for name in _HEADERS])),
        ("body", pa.string()),
    ]
)
# A name that no JSON text can have unescaped: every member is skipped.
_NO_COLUMN = pa.schema([("\x01", pa.null())])

# How the gateway begins each line.
_HEAD = r'^\{"seq":(?P<seq>[0-9]+),"received":"(?P<received>[^"\\]*)",'

_TEXT = r'[^"\\\x00-\x1f]*'
# Orion writes no blanks; a few other brokers write one.
_ENTITY_HEAD = rf'"id": ?"(?P<i>{_TEXT})", ?"type": ?"(?P<t>{_TEXT})", ?'
_NOTIFICATION = (
    rf'^\{{(?:"id": ?"{_TEXT}", ?"type": ?"Notification", ?)?'
    rf'"subscriptionId": ?"(?P<s>{_TEXT})", ?(?:"notifiedAt": ?"(?P<n>{_TEXT})", ?)?'
    rf'"data": ?\[\{{{_ENTITY_HEAD}'
)
_BARE_ENTITY = rf"^\{{{_ENTITY_HEAD}"
# More than the lines of an answer, as they are asked for (`ranges.ANSWER_BYTES`).
_PIECE_BYTES = 9 << 20
# Down to this many records the one that is no JSON is looked for.
_SMALLEST_PART = 64


def unpack(body: bytes, encoding: str | None) -> pa.Buffer:
    """Unpack an answer with records to JSON lines."""
    if encoding != "zstd" or not body:
        return pa.py_buffer(body)
    pieces = []
    with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
        # In one piece as a rule: without a size it takes many, at seven times the cost.
        while (piece := stream.read_buffer(_PIECE_BYTES)).size:
            pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else pa.py_buffer(b"".join(pieces))


def record_batch(lines: pa.Buffer, place: Mapping[str, str], columns: Columns) -> pa.RecordBatch:
    """Make the rows of JSON lines.

    `lines` are whole, and at least one; `place` gives gateway, stream and epoch.
    Rows come in the order of `seq` and `entityIndex`.
    """
    made = _raw(lines) if columns.raw else _rows(lines)
    rows = len(made["seq"])
    for name, value in place.items():
        if name in columns.names:
            made[name] = pa.repeat(pa.scalar(value, pa.string()), rows)
    arrays = [made[name] for name in columns.names]
    return pa.RecordBatch.from_arrays(arrays, schema=columns.arrow)


def _raw(lines: pa.Buffer) -> dict[str, pa.Array]:
    # Without the last line feed there is one piece for each record.
    whole = lines.slice(0, lines.size - 1) if lines[lines.size - 1] == ord("\n") else lines
    offsets = pa.py_buffer(pa.array([0, whole.size], pa.int32()).buffers()[1])
    text = pa.StringArray.from_buffers(1, offsets, whole)
    split = pc.split_pattern(text, "\n").flatten()
    # A third of what parsing the whole line costs.
    heads = pc.extract_regex(split, _HEAD)
    if heads.null_count == 0:
        seq = pc.struct_field(heads, "seq").cast(pa.int64())
        return {"seq": seq, "received": _times(pc.struct_field(heads, "received")), "line": split}
    table = _read_json(lines, _PLACE)
    return {"seq": _whole(table["seq"]), "received": _whole(table["received"]), "line": split}


def _rows(lines: pa.Buffer) -> dict[str, pa.Array]:
    table = _read_json(lines, _LINE)
    columns = {name: _whole(table[name]) for name in table.column_names}
    headers, body = columns.pop("headers"), columns["body"]
    header = {name: pc.struct_field(headers, name) for name in _HEADERS}
    bare = pc.fill_null(pc.starts_with(header["ngsiv2-attrsformat"], "simplified"), False)
    found = _found(body, pc.invert(bare), _NOTIFICATION, "}]}")
    if pc.any(bare).as_py():
        found = _either(found, _found(body, bare, _BARE_ENTITY, "}"))
    record = {
        "seq": columns["seq"],
        "received": columns["received"],
        "service": pc.coalesce(header["fiware-service"], header["ngsild-tenant"]),
        "servicePath": header["fiware-servicepath"],
        "correlator": header["fiware-correlator"],
        "body": body,
    }
    is_ld = pc.or_(pc.is_valid(header["ngsild-attribute-format"]), pc.is_valid(found["notifiedAt"]))
    entity = {
        "subscriptionId": found["subscriptionId"],
        "ngsiVersion": pc.if_else(is_ld, "ld", "v2"),
        "notifiedAt": _times(found["notifiedAt"]),
        "entityId": found["entityId"],
        "entityType": found["entityType"],
        "entityIndex": pa.repeat(pa.scalar(0, pa.int32()), len(body)),
        "attrs": found["attrs"],
        "problem": pa.nulls(len(body), pa.string()),
    }
    is_read = pc.is_valid(found["attrs"])
    if pc.all(is_read).as_py():
        return {**record, **entity}
    return _with_others(record, entity, is_read, _others(columns, headers, is_read))


def _found(body: pa.Array, of: pa.Array, head: str, tail: str) -> dict[str, pa.Array]:
    """Read the bodies (those in the mask `of`) of one form; null where they are of another."""
    of = pc.and_(of, pc.fill_null(pc.ends_with(body, tail), False))
    body = pc.if_else(of, body, pa.scalar(None, pa.string()))
    parts = pc.extract_regex(body, head)
    rest = pc.replace_substring_regex(
        pc.if_else(pc.is_valid(parts), body, pa.scalar(None, pa.string())),
        head.replace("?P<i>", "?:")
        .replace("?P<t>", "?:")
        .replace("?P<s>", "?:")
        .replace("?P<n>", "?:"),
        "{",
        max_replacements=1,
    )
    # The brackets behind the entity's own are ASCII: bytes may be cut off.
    text = pc.binary_slice(rest.cast(pa.binary()), 0, 1 - len(tail)) if len(tail) > 1 else rest
    text = text.cast(pa.string())
    # A context is no attribute.
    is_plain = pc.invert(pc.match_substring(text, '"@context"'))
    attrs = _valid(pc.if_else(is_plain, text, pa.scalar(None, pa.string())))
    names = {"subscriptionId": "s", "notifiedAt": "n", "entityId": "i", "entityType": "t"}
    groups = {field.name for field in parts.type}
    none = pa.nulls(len(body), pa.string())
    found = {n: pc.struct_field(parts, g) if g in groups else none for n, g in names.items()}
    # A group that took no part is an empty text.
    found["notifiedAt"] = pc.if_else(pc.equal(found["notifiedAt"], ""), None, found["notifiedAt"])
    return {**found, "attrs": attrs}


def _either(one: dict[str, pa.Array], other: dict[str, pa.Array]) -> dict[str, pa.Array]:
    return {name: pc.coalesce(one[name], other[name]) for name in one}


def _valid(texts: pa.Array) -> pa.Array:
    """Leave those that are one JSON object each with members; null in place of others."""
    texts = pc.if_else(pc.equal(texts, "{}"), None, texts)
    there = pc.drop_null(texts)
    if _are_objects(there):
        return texts
    flags = _search(there)
    mask = pc.is_valid(texts)
    good = pc.replace_with_mask(pa.nulls(len(texts), pa.bool_()), mask, pa.array(flags))
    return pc.if_else(pc.fill_null(good, False), texts, pa.scalar(None, pa.string()))


def _search(texts: pa.Array) -> list[bool]:
    if _are_objects(texts):
        return [True] * len(texts)
    if len(texts) <= _SMALLEST_PART:
        return [_are_objects(texts.slice(i, 1)) for i in range(len(texts))]
    middle = len(texts) // 2
    return _search(texts.slice(0, middle)) + _search(texts.slice(middle))


def _are_objects(texts: pa.Array) -> bool:
    """Tell whether each of the texts, which begin with `{` and end with `}`, is one object.

    One that is cut short cannot be made whole by the next: in an object that is
    not closed no `{` may follow a `}`. Two in one text are one too many.
    """
    if len(texts) == 0:
        return True
    joined = pc.binary_join(pa.ListArray.from_arrays([0, len(texts)], texts), "\n")
    try:
        return _read_json(joined[0].as_buffer(), _NO_COLUMN).num_rows == len(texts)
    except pa.ArrowInvalid:
        return False


def _others(
    columns: Mapping[str, pa.Array], headers: pa.Array, is_read: pa.Array
) -> tuple[list[int], list[notifications.Notification]]:
    """Read the records that are not read yet; gives where they stand, and what they are."""
    at = pc.indices_nonzero(pc.invert(is_read))
    parts = (columns["body"].take(at), headers.take(at), columns["path"].take(at))
    read = [
        notifications.read(body, header or {}, path)
        for body, header, path in zip(*(part.to_pylist() for part in parts))
    ]
    return at.to_pylist(), read


def _with_others(
    record: dict[str, pa.Array],
    entity: dict[str, pa.Array],
    is_read: pa.Array,
    others: tuple[list[int], list[notifications.Notification]],
) -> dict[str, pa.Array]:
    """Put rows that were read one by one between the others, in order."""
    rows: list[tuple[Any, ...]] = []
    parents = pc.indices_nonzero(is_read).to_pylist()
    for parent, read in zip(*others):
        for row in read.rows:
            parents.append(parent)
            rows.append(
                (
                    read.subscription_id,
                    read.version,
                    read.notified_at,
                    row.entity_id,
                    row.entity_type,
                    row.index,
                    row.attrs,
                    row.problem,
                )
            )
    read_rows = pa.table(entity).filter(is_read)
    arrays = [
        pa.array(values, WITH_BODY[name])
        for name, values in zip(read_rows.column_names, zip(*rows))
    ]
    all_rows = pa.concat_tables([read_rows, pa.table(arrays, names=read_rows.column_names)])
    all_rows = all_rows.append_column("parent", pa.array(parents, pa.int64()))
    order = pc.sort_indices(
        all_rows, sort_keys=[("parent", "ascending"), ("entityIndex", "ascending")]
    )
    all_rows = all_rows.take(order)
    parent = _whole(all_rows["parent"])
    made = {name: values.take(parent) for name, values in record.items()}
    return {**made, **{name: _whole(all_rows[name]) for name in entity}}


def _times(texts: pa.Array) -> pa.Array:
    try:
        return texts.cast(_TIME)
    except pa.ArrowInvalid:
        return pa.array([notifications.time_of(text) for text in texts.to_pylist()], _TIME)


def _read_json(lines: pa.Buffer, schema: pa.Schema) -> pa.Table:
    # One block and no threads: Spark has one task for each core already.
    return pj.read_json(
        pa.BufferReader(lines),
        read_options=pj.ReadOptions(use_threads=False, block_size=lines.size + 1),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        if whole.num_chunks > 1:
            raise GatewayError("an answer of the gateway is too large: lower maxAnswer")
        return whole.chunk(0) if whole.num_chunks else pa.array([], whole.type)
    return whole


def lowest_and_highest(batch_seq: pa.Array) -> Sequence[int]:
    """Give the lowest and the highest number of a batch."""
    bounds = pc.min_max(batch_seq)
    return bounds["min"].as_py(), bounds["max"].as_py()
