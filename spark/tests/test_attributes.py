"""The helpers on the captured notifications of every format."""

from __future__ import annotations

import datetime
import json

import pytest
from conftest import ROOT
from pyspark.sql import functions as f

from pyspark_ngsi import (
    GatewayError,
    attr,
    attr_metadata,
    attr_type,
    entities,
    observed_at,
    unit_code,
    with_variant,
)

NOTIFICATIONS = ROOT / "tests" / "fixtures" / "notifications"
V2 = ("normalized", "keyValues", "simplifiedKeyValues", "simplifiedNormalized")
LD = ("ld-normalized", "ld-concise", "ld-simplified")
GEO = {"type": "Point", "coordinates": [2.1, 41.4]}
AT = datetime.datetime(2026, 11, 22, 10, 0, 2, 250000)


def captured(name: str) -> tuple[str, str | None, dict[str, str]]:
    head, body = (NOTIFICATIONS / f"{name}.http").read_bytes().split(b"\r\n\r\n", 1)
    lines = (line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    headers = {name.lower(): value for name, value in lines}
    try:
        return name, body.decode(), headers
    except UnicodeDecodeError:
        return name, None, headers


@pytest.fixture(scope="module")
def notifications(spark):
    """One row for each entity of every captured notification, with its file's name."""
    rows = [captured(path.stem) for path in sorted(NOTIFICATIONS.glob("*.http"))]
    schema = "name string, body string, headers map<string,string>"
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    yield entities(spark.createDataFrame(rows, schema)).cache()
    spark.conf.unset("spark.sql.session.timeZone")


def values(frame, names, *columns) -> list[tuple]:
    chosen = frame.where(f.col("name").isin(*names)).orderBy("name", "entityIndex")
    return [tuple(row) for row in chosen.select(*columns).collect()]


def test_every_captured_notification_is_entities_or_says_what_is_wrong(notifications):
    rows = notifications.collect()
    assert {row.name for row in rows} == {path.stem for path in NOTIFICATIONS.glob("*.http")}
    wrong = {row.name: row.problem for row in rows if row.problem}
    assert set(wrong) == {
        "custom-GET",
        "custom-PUT-payload",
        "custom-payload-null",
        "hand-custom-text",
        "hand-empty-body",
        "hand-malformed-json",
        "hand-not-utf-8",
        "values",
        "values-attrs",
    }
    assert all((row.entityId is None) == (row.problem is not None) for row in rows)
    # It is the text that was sent, to the letter.
    sent = {name: body for name, body, _ in map(captured, {row.name for row in rows})}
    named = [row for row in rows if row.entityId and row.attrs != "{}"]
    assert all(row.attrs[1:-1].split("@context")[0].rstrip(',"') in sent[row.name] for row in named)


@pytest.mark.parametrize("name", V2)
def test_an_ngsi_v2_value_is_the_same_in_every_format(notifications, name):
    read = values(
        notifications,
        [name],
        "entityType",
        "ngsiVersion",
        attr(notifications, "temperature", "double"),
        attr(notifications, "flag", "boolean"),
        attr(notifications, "name"),
        attr(notifications, "big", "long"),
        attr(notifications, "empty"),
        attr(notifications, "when", "timestamp"),
        attr(notifications, "loc", "struct<type: string, coordinates: array<double>>"),
        attr(notifications, "nested", "struct<a: array<string>, c: boolean>"),
        attr(notifications, "absent", "double"),
        # What is no number is null, and ends nothing.
        attr(notifications, "name", "double"),
    )
    when = datetime.datetime(2026, 11, 22, 10, 0)
    nested = (["1", "2.5", '{"b":null}'], True)
    expected = ("Room", "v2", 22.25, False, "Łazienka A", 12345678901234568, None, when)
    assert read == [(*expected, ("Point", [2.1, 41.4]), nested, None, None)]


@pytest.mark.parametrize("name", LD)
def test_an_ngsi_ld_value_is_the_same_in_every_format(notifications, name):
    (row,) = values(
        notifications,
        [name],
        "entityId",
        "ngsiVersion",
        "context",
        attr(notifications, "temperature", "double"),
        attr(notifications, "name"),
        attr(notifications, "inLine"),
        attr(notifications, "location"),
        attr(notifications, "label", "map<string, string>")["pl"],
    )
    context = "https://plant.example/press-context.jsonld"
    assert row[:6] == (
        "urn:ngsi-ld:Press:1",
        "ld",
        context,
        22.25,
        "Łazienka A",
        "urn:ngsi-ld:Line:a",
    )
    assert json.loads(row[6]) == GEO
    # Simplified keeps the languageMap around it: it is a value like any other there.
    assert row[7] == "prasa"


def test_unit_and_time_of_observation_are_read_of_both_apis(notifications):
    names = ["ld-concise", "ld-normalized", "normalized", "simplifiedKeyValues"]
    read = values(
        notifications,
        names,
        unit_code(notifications, "temperature"),
        observed_at(notifications, "temperature"),
        attr_type(notifications, "temperature"),
    )
    assert read == [
        ("CEL", AT, None),
        ("CEL", AT, "Property"),
        ("CEL", AT, "Number"),
        (None, None, None),
    ]


def test_metadata_is_read_with_its_type(notifications):
    previous = attr_metadata(notifications, "temperature", "previousValue", "double")
    assert values(notifications, ["metadata"], previous) == [(21.0,)]


def test_of_several_instances_the_one_of_a_dataset_is_chosen(notifications):
    read = values(
        notifications,
        ["ld-multi-attribute"],
        attr(notifications, "temperature", "double"),
        attr(notifications, "temperature", "double", dataset_id="urn:ngsi-ld:Sensor:2"),
        attr(notifications, "temperature", "double", dataset_id="urn:ngsi-ld:Sensor:3"),
    )
    assert read == [(22.25, 22.5, None)]


def test_the_instance_without_a_dataset_is_the_default(spark):
    attrs = '{"t":[{"value":1,"datasetId":"urn:a"},{"value":2}]}'
    frame = spark.createDataFrame([(attrs,)], "attrs string")
    assert frame.select(attr(frame, "t", "int")).first()[0] == 2


def test_geo_json_and_several_entities_are_a_row_each(notifications):
    temperature = attr(notifications, "temperature", "double")
    names = ["ld-geo-json", "ld-several-entities"]
    assert values(notifications, names, "entityId", "entityType", temperature) == [
        ("urn:ngsi-ld:Press:1", "Press", 22.25),
        ("urn:ngsi-ld:Press:2", "Press", 19.0),
        ("urn:ngsi-ld:Press:1", "Press", 22.25),
        ("urn:ngsi-ld:Press:2", "Press", 19.0),
        ("urn:ngsi-ld:Press:3", '["Press", "Machine"]', 7.5),
    ]


def test_a_context_in_the_body_is_found(notifications):
    assert values(notifications, ["ld-json-ld-context"], "context", "notifiedAt") == [
        ("https://plant.example/press-context.jsonld", AT)
    ]


def test_values_that_look_like_attributes_of_the_other_api_stay_values(spark):
    cases = [
        ("v2", '{"a":{"value":1,"unit":"C"}}', '{"value":1,"unit":"C"}'),
        ("v2", '{"a":{"object":"x"}}', '{"object":"x"}'),
        ("v2", '{"a":[{"id":1},{"id":2}]}', '[{"id":1},{"id":2}]'),
        ("ld", '{"a":{"value":1,"unitCode":"C"}}', "1"),
        ("ld", '{"a":{"type":"Relationship","object":["urn:1","urn:2"]}}', '["urn:1","urn:2"]'),
        ("ld", '{"a":{"type":"ListProperty","valueList":[1,2]}}', "[1,2]"),
        ("ld", '{"a":{"type":"VocabProperty","vocab":"on"}}', "on"),
        ("ld", '{"a":{"type":"JsonProperty","json":{"k":1}}}', '{"k":1}'),
        ("v2", '{"a":{"type":"None","value":null,"metadata":{}}}', None),
        ("v2", '{"a":"it is \\"quoted\\""}', 'it is "quoted"'),
        ("v2", "no JSON", None),
        ("v2", None, None),
    ]
    frame = spark.createDataFrame(
        [(n, version, attrs) for n, (version, attrs, _) in enumerate(cases)],
        "n int, ngsiVersion string, attrs string",
    )
    read = frame.orderBy("n").select(attr(frame, "a")).collect()
    assert [row[0] for row in read] == [expected for *_, expected in cases]


def test_an_ngsi_ld_time_in_its_wrapping_is_a_timestamp(spark, notifications):
    attrs = (
        '{"t":{"type":"Property","value":{"@type":"DateTime","@value":"2026-11-22T10:00:02.250Z"}}}'
    )
    frame = spark.createDataFrame([(attrs,)], "attrs string")
    assert frame.select(attr(frame, "t", "timestamp")).first()[0] == AT


def test_an_expanded_name_is_a_name(spark):
    frame = spark.createDataFrame([('{"https://a.example/t.x#y":{"value":5}}',)], "attrs string")
    assert frame.select(attr("attrs", "https://a.example/t.x#y", "int")).first()[0] == 5
    with pytest.raises(ValueError, match="no name of an attribute"):
        attr(frame, "it's")


def test_attributes_are_read_without_python(notifications, spark):
    frame = spark.createDataFrame([("{}",)], "attrs string")
    plan = frame.select(attr(frame, "t", "double"))._jdf.queryExecution().toString()
    assert "Python" not in plan
    assert "get_json_object" in plan


def test_a_variant_of_the_attributes_is_read_once_for_all_paths(spark, notifications):
    if not hasattr(f, "try_parse_json"):
        with pytest.raises(GatewayError, match=r"came with 4\.0"):
            with_variant(notifications)
        return
    frame = with_variant(notifications)
    path = "variant_get(attrsVariant, '$.temperature.value', 'double') AS t"
    read = frame.where("name = 'normalized'").selectExpr(path)
    assert read.first().t == 22.25
    broken = spark.createDataFrame([("{no JSON",)], "attrs string")
    assert with_variant(broken).first().attrsVariant is None


def test_raw_lines_become_entities_and_a_broken_line_is_a_row(spark):
    line = {
        "seq": 7,
        "headers": {"fiware-service": "plant1", "fiware-servicepath": "/a"},
        "body": '{"subscriptionId":"s","data":[{"id":"urn:P:1","type":"P","t":1}]}',
    }
    rows = [
        ("edge1", 7, json.dumps(line)),
        ("edge1", 8, "{cut"),
        ("edge1", 9, '{"body_base64":"/w=="}'),
    ]
    frame = spark.createDataFrame(rows, "gateway string, seq long, line string")
    first, second, third = entities(frame).orderBy("seq").collect()
    assert (first.gateway, first.seq, first.service, first.servicePath) == (
        "edge1",
        7,
        "plant1",
        "/a",
    )
    assert (first.entityId, first.entityType, first.entityIndex) == ("urn:P:1", "P", 0)
    assert (first.attrs, first.subscriptionId, first.problem) == ('{"t":1}', "s", None)
    assert second.problem.startswith("the line is none of the gateway's")
    assert third.problem.startswith("the body is not UTF-8")


def test_rows_without_a_body_are_told_what_is_missing(spark):
    with pytest.raises(GatewayError, match=r"a column line .* or body"):
        entities(spark.createDataFrame([("{}",)], "attrs string"))
