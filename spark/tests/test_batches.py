"""Records to rows: whole answers at once, and one by one what is of another form."""

from __future__ import annotations

import base64
import json
import random
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import ROOT

from pyspark_ngsi import batches, notifications
from pyspark_ngsi.entities import _expand
from pyspark_ngsi.errors import OptionError
from pyspark_ngsi.schema import Columns

PLACE = {"gateway": "edge1", "stream": "press", "epoch": "e"}
V2 = {"ngsiv2-attrsformat": "normalized"}
FIXTURES = ROOT / "tests" / "fixtures" / "notifications"


def captured(path: Path) -> tuple[str, dict[str, str], bytes]:
    """Path, headers (lower case) and body of a captured request."""
    head, _, body = path.read_bytes().partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return first.split(" ")[1], {name.lower(): value for name, value in pairs}, body


def line(seq: int, body: bytes, headers: dict[str, str], path: str = "/notify/press") -> bytes:
    record = {"seq": seq, "received": "2026-11-22T10:55:08.123456Z", "method": "POST"}
    record |= {"path": path, "headers": headers}
    try:
        record["body"] = body.decode()
    except UnicodeDecodeError:
        record["body_base64"] = base64.b64encode(body).decode()
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def rows(lines: bytes, **options: str) -> list[dict]:
    columns = Columns.from_options(options)
    return batches.record_batch(pa.py_buffer(lines), PLACE, columns).to_pylist()


def test_entities_of_every_captured_notification_are_those_that_a_plain_reading_finds():
    paths = sorted(FIXTURES.glob("*.http"))
    requests = [captured(path) for path in paths]
    lines = b"".join(line(i, body, head, path) for i, (path, head, body) in enumerate(requests))
    read = rows(lines)
    assert len({row["seq"] for row in read}) == len(paths) > 40
    for seq, (path, head, body) in enumerate(requests):
        mine = [row for row in read if row["seq"] == seq]
        text = body.decode() if b"\xff" not in body and is_utf_8(body) else None
        plain = notifications.read(text, head, path)
        assert [row["entityIndex"] for row in mine] == list(range(len(plain.rows)))
        for row, one in zip(mine, plain.rows):
            found = (row["entityId"], row["entityType"], row["attrs"], row["problem"])
            assert found == (one.entity_id, one.entity_type, one.attrs, one.problem), paths[seq]
            assert (row["subscriptionId"], row["ngsiVersion"]) == (
                plain.subscription_id,
                plain.version,
            ), paths[seq]
            assert row["notifiedAt"] == plain.notified_at


def is_utf_8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


BODIES = [
    '{"subscriptionId":"s","data":[{"id":"a","type":"T","x":1}]}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T","x":1},{"id":"b","type":"T","x":2}]}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T","x":1}],"more":[{"id":"b"}]}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T","x":1}],"@context":[{"b":1}]}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T","x":1} {"y":2}]}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T","@context":"u","x":1}]}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T",}]}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T","x":1,}]}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T","x":{"y":1}]}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T","x":"1}]}',
    '{"subscriptionId":"s","data":[{"id":"a\\"b","type":"T","x":1.10}]}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T","x":"}]}"}]}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T"}]}',
    '{"subscriptionId":"s","data":[{"type":"T","x":1}]}',
    '{"subscriptionId":"s","data":[]}',
    '{"subscriptionId":"s","data":[7]}',
    '{"subscriptionId": "s", "data": [{"id": "a", "type": "T", "x": {"value": 1}}]}',
    '{\n "subscriptionId":"s",\n "data":[{"id":"a","type":"T",\n"x":1}]}',
    '{"subscriptionId":"s","data":[{"id":"\\ud800","type":"T","x":"\\ud800"}]}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T","x":01}]}',
    "[1]",
    "null",
    "",
    " ",
    "{",
    '{"id":"a","type":"T","x":1}',
    '{"subscriptionId":"s","data":[{"id":"a","type":"T","x":'
    + "[" * 100_000
    + "]" * 100_000
    + "}]}",
]


def test_what_arrow_takes_for_an_entity_is_one_in_any_company():
    chance = random.Random(4)
    alone = {
        body: [
            (row.entity_id, row.entity_type, row.attrs)
            for row in notifications.read(body, V2, "/notify/press").rows
        ]
        for body in BODIES[:-1]
    }
    for _ in range(30):
        bodies = chance.choices(BODIES[:-1], k=chance.choice([1, 2, 5, 300]))
        read = rows(b"".join(line(i, b.encode(), V2) for i, b in enumerate(bodies)))
        for seq, body in enumerate(bodies):
            mine = [r for r in read if r["seq"] == seq]
            found = [(r["entityId"], r["entityType"], r["attrs"]) for r in mine]
            expected = [
                (i and i.encode("utf-8", "replace").decode(), t, a) for i, t, a in alone[body]
            ]
            assert found == expected, body
            assert [r["entityIndex"] for r in mine] == list(range(len(mine)))
        assert [r["seq"] for r in read] == sorted(r["seq"] for r in read)


def test_a_body_nested_without_end_is_a_row_and_harms_nobody():
    bodies = [BODIES[0], BODIES[-1], '{"id":"a","x":' + "[" * 100_000, BODIES[0]]
    read = rows(b"".join(line(i, b.encode(), V2) for i, b in enumerate(bodies)))
    assert [row["entityId"] for row in read] == ["a", "a", None, "a"]
    assert read[2]["problem"]


def test_nothing_that_a_notification_may_hold_costs_a_batch():
    # A host that is none, where a URL were expected.
    (row,) = notifications.read("hello", {}, "//[x?subscriptionId=s").rows
    assert "no JSON" in row.problem
    twice = '{"id":"a","properties":null,"properties":{"type":"T","x":1}}'
    (row,) = notifications.read(f'{{"data":{{"features":[{twice}]}}}}', {}, "/notify").rows
    assert (row.entity_id, row.entity_type, row.attrs) == ("a", "T", '{"x":1}')
    # One of these depths is read as a whole, and is too deep for its parts.
    for depth in range(sys.getrecursionlimit() // 2, sys.getrecursionlimit() + 50):
        nested = "[" * depth + "]" * depth
        data = f'[{{"id":"a","type":"T","x":{nested}}},{{"id":"b","type":"T"}}]'
        assert notifications.read(f'{{"subscriptionId":"s","data":{data}}}', {}, "/notify").rows


def test_half_a_surrogate_pair_in_a_name_costs_no_batch_of_entities():
    body = r'{"subscriptionId":"\udc00","data":[{"id":"\ud800","type":"\ud800"}]}'
    batch = pa.RecordBatch.from_pydict({"body": [body]})
    made = ("entityId", "entityType", "subscriptionId", "problem")
    (row,) = _expand(batch, [], made, False).to_pylist()
    assert row == {"entityId": "?", "entityType": "?", "subscriptionId": "?", "problem": None}


def test_a_raw_line_is_what_the_gateway_sent():
    lines = [line(i, b.encode(), V2) for i, b in enumerate(BODIES[:5])]
    read = rows(b"".join(lines), raw="true")
    assert [row["line"].encode() + b"\n" for row in read] == lines
    assert [row["seq"] for row in read] == list(range(5))


def test_the_body_comes_with_each_of_its_entities_on_request():
    read = rows(line(0, BODIES[1].encode(), V2), body="true")
    assert [row["body"] for row in read] == [BODIES[1], BODIES[1]]
    assert "body" not in rows(line(0, BODIES[1].encode(), V2))[0]


def test_columns_are_chosen_in_any_order_and_case():
    columns = Columns.from_options({"columns": "attrs, SEQ,body"})
    assert columns.ddl == "attrs string, seq long, body string"
    with pytest.raises(OptionError, match="temperature"):
        Columns.from_options({"columns": "temperature"})
    with pytest.raises(OptionError, match="true or false"):
        Columns.from_options({"raw": "yes"})
