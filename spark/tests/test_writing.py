"""What becomes of a DataFrame's rows at Orion."""

from __future__ import annotations

import datetime
import json

import pytest
from conftest import until
from orion import Orion

from pyspark_ngsi.http import Access, request


@pytest.fixture
def orion():
    broker = Orion()
    yield broker
    broker.end()


@pytest.fixture
def edge(gateways, orion):
    return gateways("edge", ID="edge1", ORION__URL=orion.url)


def write(frame, edge, **options) -> None:
    given = {**edge.options(), **{name: str(value) for name, value in options.items()}}
    frame.write.format("ngsi").options(**given).mode("append").save()


def applied(orion, count: int) -> list[dict]:
    """The requests that Orion applied, once they are so many and the gateway is idle."""
    until(lambda: orion.applied() >= count, f"{count} writes at Orion")
    return [one for one in orion.journal() if one["applied"]]


def received(orion, count: int) -> list[dict]:
    until(lambda: orion.received() >= count, f"{count} requests at Orion")
    return [one for one in orion.journal() if one["method"] != "GET"]


def shape(one: dict) -> tuple:
    return one["method"], one["path"], json.loads(one["body"]) if one["body"] else None


def header(one: dict, name: str) -> str | None:
    return next((v for n, v in one["headers"] if n.lower() == name.lower()), None)


def test_columns_become_attributes_of_their_types(spark, edge, orion):
    frame = spark.sql(
        """SELECT 'urn:Press:1' AS id, 'Press' AS type, 22.25D AS temperature, 7 AS strokes,
           CAST(1.50 AS DECIMAL(9,2)) AS gain, true AS running, 'Łazienka A' AS name,
           timestamp'2026-11-22T10:00:02.250Z' AS at, date'2026-11-22' AS day,
           named_struct('a', array(1, 2), 'b', map('k', 1.5D)) AS nested,
           CAST(null AS DOUBLE) AS missing, timestamp_ntz'2026-11-22T10:00:00' AS plain"""
    )
    write(frame, edge, service="plant1", servicePath="/line/a")
    (one,) = applied(orion, 1)
    method, path, body = shape(one)
    assert (method, path) == ("POST", "/v2/entities?options=upsert")
    assert body == {
        "id": "urn:Press:1",
        "type": "Press",
        "temperature": {"value": 22.25, "type": "Number"},
        "strokes": {"value": 7, "type": "Number"},
        "gain": {"value": 1.5, "type": "Number"},
        "running": {"value": True, "type": "Boolean"},
        "name": {"value": "Łazienka A", "type": "Text"},
        "at": {"value": "2026-11-22T10:00:02.250Z", "type": "DateTime"},
        "day": {"value": "2026-11-22", "type": "DateTime"},
        "nested": {"value": {"a": [1, 2], "b": {"k": 1.5}}, "type": "StructuredValue"},
        "plain": {"value": "2026-11-22T10:00:00.000Z", "type": "DateTime"},
    }
    assert header(one, "fiware-service") == "plant1"
    assert header(one, "fiware-servicepath") == "/line/a"
    assert orion.entity("urn:Press:1", "plant1")["temperature"]["value"] == 22.25


def test_each_operation_is_the_request_that_the_documentation_names(spark, edge, orion):
    attrs = '{"t": {"type": "Number", "value": 1.50}}'
    rows = [
        ("upsert", "urn:Press:1", attrs),
        ("update", "urn:Press:1", attrs),
        ("append", "urn:Press:1", '{"u": {"type": "Number",\n "value": 2}}'),
        ("replace", "urn:Press:1", attrs),
        ("delete", "urn:Press:1", None),
    ]
    schema = "operation string, id string, attrs string"
    frame = spark.createDataFrame(rows, schema).coalesce(1).selectExpr("*", "'Press' AS type")
    write(frame, edge)
    assert [(one["method"], one["path"]) for one in applied(orion, 5)] == [
        ("POST", "/v2/entities?options=upsert"),
        ("PATCH", "/v2/entities/urn:Press:1/attrs?type=Press"),
        ("POST", "/v2/entities/urn:Press:1/attrs?type=Press"),
        ("PUT", "/v2/entities/urn:Press:1/attrs?type=Press"),
        ("DELETE", "/v2/entities/urn:Press:1?type=Press"),
    ]
    # In its own spelling, to the last digit.
    assert '"value": 1.50' in applied(orion, 5)[1]["body"]


def test_ngsi_ld_is_written_with_its_tenant_and_context(spark, edge, orion):
    entity = "urn:ngsi-ld:Press:1"
    rows = [(operation, entity) for operation in ("upsert", "update", "append", "replace")]
    frame = spark.createDataFrame([*rows, ("delete", entity)], "operation string, id string")
    frame = frame.coalesce(1).selectExpr(
        "*", "'Press' AS type", "1.5D AS t", "timestamp'2026-11-22T10:00:00Z' AS at"
    )
    context = "https://plant.example/press.jsonld"
    write(frame, edge, api="ld", service="plant1", context=context)
    seen = applied(orion, 5)
    attributes = {
        "t": {"type": "Property", "value": 1.5},
        "at": {
            "type": "Property",
            "value": {"@type": "DateTime", "@value": "2026-11-22T10:00:00.000Z"},
        },
    }
    whole = {"id": entity, "type": "Press", **attributes}
    at = f"/ngsi-ld/v1/entities/{entity}"
    assert [shape(one) for one in seen] == [
        ("POST", "/ngsi-ld/v1/entityOperations/upsert?options=update", [whole]),
        ("PATCH", f"{at}/attrs", attributes),
        ("POST", f"{at}/attrs", attributes),
        ("PUT", at, whole),
        ("DELETE", at, None),
    ]
    for one in seen:
        assert header(one, "ngsild-tenant") == "plant1"
        assert header(one, "link").startswith(f"<{context}>; rel=")


def test_a_context_given_as_json_goes_into_the_body(spark, edge, orion):
    frame = spark.sql("SELECT 'urn:ngsi-ld:P:1' AS id, 'P' AS type, 1 AS t")
    write(frame, edge, api="ld", context='["https://plant.example/press.jsonld"]')
    (one,) = applied(orion, 1)
    assert json.loads(one["body"])[0]["@context"] == ["https://plant.example/press.jsonld"]
    assert header(one, "content-type") == "application/ld+json"


def test_key_values_are_passed_on_as_key_values(spark, edge, orion):
    frame = spark.sql("""SELECT 'urn:P:1' AS entityId, 'P' AS entityType, '{"t": 21}' AS attrs""")
    write(frame, edge, attrsFormat="keyValues")
    assert applied(orion, 1)[0]["path"] == "/v2/entities?options=keyValues,upsert"
    assert orion.entity("urn:P:1")["t"]["value"] == 21


def test_raw_requests_are_sent_as_they_are(spark, edge, orion):
    body = '{"id":"urn:P:1","type":"P","n":{"type":"Number","value":1.50}}'
    row = ("POST", "/v2/entities", body, {"Fiware-Service": "plant1", "X-Of": "mine"})
    columns = "method string, path string, body string, headers map<string,string>"
    write(spark.createDataFrame([row], columns), edge)
    (one,) = applied(orion, 1)
    assert (one["method"], one["path"], one["body"]) == row[:3]
    assert header(one, "fiware-service") == "plant1"
    assert header(one, "x-of") == "mine"


def test_rows_of_a_partition_are_applied_in_their_order(spark, edge, orion):
    frame = spark.range(0, 500, 1, 1).selectExpr("concat('urn:P:', id % 3) AS id", "id AS n")
    write(frame, edge, stageBytes=5000)
    seen = [shape(one)[2] for one in applied(orion, 500)]
    for entity in ("urn:P:0", "urn:P:1", "urn:P:2"):
        numbers = [body["n"]["value"] for body in seen if body["id"] == entity]
        assert numbers == sorted(numbers)
    assert len(seen) == 500


def test_a_row_for_a_gateway_goes_there(spark, gateways, orion):
    first = gateways("first", ID="edge1", ORION__URL=orion.url)
    settings = {"CERT": "server.pem", "KEY": "server.key", "CLIENT_CA": "ca.pem"}
    pki = first.data_dir / "pki"
    same = {f"SPARK__{name}": str(pki / file) for name, file in settings.items()}
    second = gateways("second", ID="edge2", ORION__URL=orion.url, **same)
    frame = spark.createDataFrame(
        [("edge1", "urn:P:1"), ("edge2", "urn:P:2"), ("edge2", "urn:P:3")],
        "gateway string, id string",
    )
    write(frame.selectExpr("*", "1 AS t"), first, url=f"{first.url},{second.url}")
    applied(orion, 3)
    counts = {}
    for gateway in (first, second):
        metrics = gateway.metrics()
        line = next(x for x in metrics.splitlines() if x.startswith(ACCEPTED))
        counts[gateway.folder.name] = int(line.split()[-1])
    # A commit counts as one.
    assert counts == {"first": 1, "second": 1}


ACCEPTED = "ngsi_ferry_spark_accepted_write_backs_total"


def test_a_row_that_can_be_no_write_fails_with_itself_in_the_message(spark, edge, orion):
    frame = spark.createDataFrame([("urn:P:1", float("nan"))], "id string, t double")
    with pytest.raises(Exception, match=r"nan is no number.*id='urn:P:1'.*onBadRow"):
        write(frame, edge)
    assert orion.applied() == 0


@pytest.mark.parametrize("piece", [100, 1 << 20])
def test_rows_that_can_be_no_writes_are_skipped_where_that_is_asked_for(spark, edge, orion, piece):
    rows = [
        ("POST", "/v2/entities", '{"id":"urn:P:1","type":"P"}'),
        ("GET", "/v2/entities", None),
        # The gateway's own rules are stricter than the package's.
        ("DELETE", "/v2/entities/..", None),
        ("POST", "/v2/op/query", "{}"),
        ("POST", "/v2/entities", '{"id":"urn:P:2","type":"P"}'),
    ]
    frame = spark.createDataFrame(rows, "method string, path string, body string").coalesce(1)
    write(frame, edge, onBadRow="skip", stageBytes=piece)
    # Two entities: nothing is promised about their order.
    assert sorted(one["targets"] for one in applied(orion, 2)) == [["urn:P:1"], ["urn:P:2"]]


def test_more_than_the_gateway_takes_at_once_is_staged_in_pieces(spark, gateways, orion):
    edge = gateways("edge", ORION__URL=orion.url, SPARK__MAX_BODY="20KiB")
    frame = spark.range(0, 200, 1, 1).selectExpr(
        "concat('urn:P:', id) AS id", "repeat('x', 500) AS text"
    )
    write(frame, edge)
    assert len(applied(orion, 200)) == 200


def test_a_batch_write_under_one_transaction_counts_once(spark, edge, orion):
    frame = spark.range(3).selectExpr("concat('urn:P:', id) AS id", "1 AS t")
    write(frame, edge, txnAppId="nightly", txnVersion=7)
    write(frame, edge, txnAppId="nightly", txnVersion=7)
    write(frame, edge, txnAppId="nightly", txnVersion=8)
    assert len(applied(orion, 6)) == 6


def test_a_batch_write_without_a_name_need_not_be_remembered_for_ever(spark, edge, orion):
    frame = spark.range(3).selectExpr("concat('urn:P:', id) AS id", "1 AS t")
    write(frame, edge)
    write(frame, edge, txnAppId="nightly", txnVersion=7)
    assert len(applied(orion, 6)) == 6
    state = (edge.data_dir / "write-backs" / "state.a").read_bytes()[8:].rstrip(b"\0")
    marks = json.loads(state)["marks"]
    once = {name: mark.endswith(" once") for name, mark in marks.items() if "committed:" in name}
    assert once.pop("committed:nightly") is False
    ((name, is_once),) = once.items()
    assert name.startswith("committed:batch-")
    assert is_once


def test_what_a_task_staged_is_dropped_where_another_fails(spark, edge, orion):
    frame = spark.createDataFrame([("urn:P:1", 1.0)], "id string, t double").union(
        spark.createDataFrame([("urn:P:2", float("inf"))], "id string, t double")
    )
    with pytest.raises(Exception, match="inf is no number"):
        write(frame, edge)
    write(spark.sql("SELECT 'urn:P:3' AS id, 1.0D AS t"), edge)
    assert [one["targets"] for one in applied(orion, 1)] == [["urn:P:3"]]


@pytest.mark.parametrize(
    ("query", "options", "expected"),
    [
        ("SELECT 1 AS t", {}, "column id"),
        ("SELECT 'a' AS id, binary('x') AS b", {}, "column b is binary"),
        ("SELECT 'a' AS id, '{}' AS attrs, 1 AS t", {}, "leave out t"),
        ("SELECT 'a' AS id, 'b' AS entityId", {}, "two columns say the id"),
        ("SELECT 'POST' AS method, '/v2/x' AS path, 1 AS t", {}, "t has no place"),
        ("SELECT 'a' AS id", {"operation": "erase"}, "upsert, update, append"),
        ("SELECT 'a' AS id", {"api": "ld", "servicePath": "/"}, "no service path"),
        ("SELECT 'a' AS id", {"context": "https://a.example"}, r'option\("api", "ld"\)'),
        ("SELECT 'a' AS id", {"txnAppId": "x"}, "only go together"),
    ],
)
def test_what_cannot_work_is_told_before_anything_runs(spark, edge, query, options, expected):
    with pytest.raises(Exception, match=expected):
        write(spark.sql(query), edge, **options)


def test_overwriting_a_context_broker_is_refused(spark, edge):
    frame = spark.sql("SELECT 'a' AS id, 1 AS t")
    with pytest.raises(Exception, match="cannot empty a context broker"):
        frame.write.format("ngsi").options(**edge.options()).mode("overwrite").save()


def test_a_job_without_the_right_to_write_back_is_told_so(spark, gateways):
    edge = gateways("edge")
    (edge.folder / "ngsi-ferry.toml").write_text('[[client]]\nname = "client"\nallow = ["read"]\n')
    edge.stop()
    edge.settings["CONFIG"] = str(edge.folder / "ngsi-ferry.toml")
    edge.start()
    with pytest.raises(Exception, match=r"not granted .write-back."):
        write(spark.sql("SELECT 'urn:P:1' AS id, 1 AS t"), edge)


def test_the_moment_of_a_timestamp_is_the_same_in_every_zone(spark, edge, orion):
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        frame = spark.sql("SELECT 'urn:P:1' AS id, timestamp'2026-11-22T10:00:00.123456Z' AS at")
        write(frame, edge)
    finally:
        spark.conf.unset("spark.sql.session.timeZone")
    (one,) = applied(orion, 1)
    told = json.loads(one["body"])["at"]["value"]
    assert datetime.datetime.fromisoformat(told.replace("Z", "+00:00")).microsecond == 123456
    assert told == "2026-11-22T10:00:00.123456Z"


def test_a_relay_that_does_not_know_the_gateway_says_so(spark, edge):
    frame = spark.sql("SELECT 'urn:P:1' AS id, 1 AS t")
    with pytest.raises(Exception, match="edge9"):
        write(frame, edge, gateway="edge9")


def test_the_gateway_can_be_reached_by_the_tests_own_means(edge):
    (access,) = Access.from_options(edge.options())
    assert request(access, "GET", "/v1/streams").json()["gateway"] == "edge1"


def test_a_streaming_query_finds_ngsi_by_its_name_alone(spark, edge, orion, tmp_path):
    rows = tmp_path / "rows"
    spark.range(5).selectExpr("concat('urn:P:', id) AS id", "id AS n").write.json(str(rows))
    stream = spark.readStream.schema("id string, n long").json(str(rows))

    def run(checkpoint: str) -> None:
        query = stream.writeStream.format("ngsi").options(**edge.options())
        query = query.option("checkpointLocation", str(tmp_path / checkpoint))
        query.trigger(availableNow=True).start().awaitTermination()

    run("one")
    run("one")
    assert len(applied(orion, 5)) == 5
    # A new checkpoint is a new query.
    run("two")
    assert len(applied(orion, 10)) == 10


def test_each_batch_of_a_foreach_batch_counts_once(spark, edge, orion, tmp_path):
    rows = tmp_path / "rows"
    spark.range(0, 50, 1, 4).selectExpr("'urn:P:1' AS id", "id AS n").write.json(str(rows))
    stream = spark.readStream.schema("id string, n long").json(str(rows))

    def twice(batch, number):
        ordered = batch.repartition("id").sortWithinPartitions("n")
        for _ in range(2):
            write(ordered, edge, txnAppId="sink", txnVersion=number)

    query = stream.writeStream.foreachBatch(twice)
    query = query.option("checkpointLocation", str(tmp_path / "checkpoint"))
    query.trigger(availableNow=True).start().awaitTermination()
    numbers = [shape(one)[2]["n"]["value"] for one in applied(orion, 50)]
    assert numbers == list(range(50))


def test_a_row_that_was_read_goes_back_as_it_came(spark, edge, orion):
    attrs = {"temperature": {"type": "Number", "value": 21.5, "metadata": {}}}
    body = {"subscriptionId": "s", "data": [{"id": "urn:P:1", "type": "P", **attrs}]}
    edge.notify("default", body, {"Fiware-Service": "plant1", "Ngsiv2-AttrsFormat": "normalized"})
    read = spark.read.format("ngsi").options(**edge.options()).option("stream", "default").load()
    columns = ("gateway", "service", "servicePath", "entityId", "entityType", "attrs")
    write(read.select(*columns), edge)
    applied(orion, 1)
    assert orion.entity("urn:P:1", "plant1")["temperature"] == attrs["temperature"]
