"""format("ngsi") in a real Spark, from a real gateway: rows, batches, several gateways."""

from __future__ import annotations

import ast
import http.client
import itertools
import json
import shutil

import pytest
from conftest import notification, until
from test_batches import FIXTURES, captured

from pyspark_ngsi import http as api
from pyspark_ngsi.http import Access

pyspark_datasource = pytest.importorskip("pyspark.sql.datasource", reason="Spark 3.5 has none")
from pyspark.errors import PySparkException  # noqa: E402

HAS_LIMITS = hasattr(pyspark_datasource.DataSourceStreamReader, "getDefaultReadLimit")
ENTITY = {"id": "urn:Press:1", "type": "Press"}


@pytest.fixture
def edge(gateways):
    return gateways("edge1", ID="edge1")


def batch(spark, gateway, **options):
    return (
        spark.read.format("ngsi")
        .options(**{**gateway.options(), "stream": "press", **options})
        .load()
    )


def stream(spark, gateway, folder, trigger=None, **options):
    """Starts a query into parquet; all that there is without a trigger."""
    given = {
        **gateway.options(),
        "stream": "press",
        "consumer": "job",
        "keepAlive": "1s",
        **options,
    }
    write = spark.readStream.format("ngsi").options(**given).load().writeStream.format("parquet")
    write = write.option("path", str(folder / "out"))
    write = write.option("checkpointLocation", str(folder / "checkpoint"))
    return write.trigger(**(trigger or {"availableNow": True})).start()


def finish(query):
    query.awaitTermination(120)
    return query


def seqs(spark, folder) -> list[tuple[str, int]]:
    rows = spark.read.parquet(str(folder / "out")).select("gateway", "seq").collect()
    return sorted((row.gateway, row.seq) for row in rows)


# After a restart the same bytes within 5 s would count as libcurl's repeat.
NUMBERS = itertools.count()


def fill(gateway, records: int) -> None:
    gateway.notify_all("press", [notification(next(NUMBERS)) for _ in range(records)])


def told(gateway, **options: str) -> dict:
    """What the gateway tells of the stream."""
    access = Access.from_options({**gateway.options(), **options})[0]
    return api.request(access, "GET", "/v1/streams/press").json()


def consumers(gateway) -> dict[str, int]:
    return {one["name"]: one["position"] for one in told(gateway)["consumers"]}


def test_the_format_is_found_without_register_and_every_notification_is_a_row(spark, edge):
    connection = http.client.HTTPConnection("127.0.0.1", edge.ports["INTAKE"], timeout=30)
    paths = sorted(FIXTURES.glob("*.http"))
    for path in paths:
        _, headers, body = captured(path)
        connection.request("POST", "/notify/press", body=body, headers=headers)
        assert connection.getresponse().read() == b""
    rows = batch(spark, edge).collect()
    assert {row.seq for row in rows} == set(range(len(paths)))
    assert {row.gateway for row in rows} == {"edge1"}
    by_name = {path.stem: [r for r in rows if r.seq == i] for i, path in enumerate(paths)}
    (one,) = by_name["fiware-service-1"]
    assert (one.service, one.servicePath, one.ngsiVersion) == ("plant1", "/line/a", "v2")
    assert (one.entityId, one.entityType, one.entityIndex) == ("urn:Room:svc", "Room", 0)
    assert one.correlator == "335b9558-e663-11f1-9ffc-02fc00000001; cbnotif=1"
    assert json.loads(one.attrs)["big"] == {
        "type": "Number",
        "value": 12345678901234568,
        "metadata": {},
    }
    (linked,) = by_name["ld-concise"]
    assert (linked.ngsiVersion, linked.subscriptionId) == ("ld", "urn:ngsi-ld:Subscription:press")
    assert linked.notifiedAt is not None
    several = [(row.entityId, row.entityIndex) for row in by_name["hand-several-entities"]]
    assert several == [("urn:Room:0", 0), ("urn:Room:1", 1), ("urn:Room:2", 2)]
    (broken,) = by_name["hand-malformed-json"]
    assert broken.entityId is None
    assert "no JSON" in broken.problem


def test_a_batch_reads_what_is_stored_between_two_offsets_and_takes_nothing(spark, edge):
    fill(edge, 5000)
    assert batch(spark, edge, partitions="3").rdd.getNumPartitions() == 3
    some = {"startingOffsets": '{"edge1": 10}', "endingOffsets": '{"edge1/press": 20}'}
    read = batch(spark, edge, **some, columns="seq, entityId")
    assert [row.seq for row in read.collect()] == list(range(10, 20))
    assert batch(spark, edge, startingOffsets="latest").count() == 0
    raw = batch(spark, edge, raw="true").first()
    assert json.loads(raw.line)["seq"] == raw.seq == 0
    assert consumers(edge) == {}


@pytest.mark.skipif(not HAS_LIMITS, reason="Spark tells of no start before 4.2")
def test_a_batch_has_no_more_records_than_asked_for_and_available_now_takes_all(
    spark, edge, tmp_path
):
    fill(edge, 100)
    query = finish(stream(spark, edge, tmp_path, maxRecordsPerTrigger="30"))
    sizes = [progress["numInputRows"] for progress in query.recentProgress]
    assert [size for size in sizes if size] == [30, 30, 30, 10]
    assert seqs(spark, tmp_path) == [("edge1", n) for n in range(100)]
    assert consumers(edge) == {"job": 100}, "the last batch too"


def test_a_query_goes_on_from_its_checkpoint_and_begins_where_it_is_told(spark, edge, tmp_path):
    fill(edge, 10)
    finish(stream(spark, edge, tmp_path, startingOffsets="latest"))
    assert consumers(edge) == {"job": 10}, "registered before anything is read"
    for rounds in range(1, 3):
        fill(edge, 20)
        finish(stream(spark, edge, tmp_path, startingOffsets="latest"))
        assert seqs(spark, tmp_path) == [("edge1", n) for n in range(10, 10 + 20 * rounds)]


def test_several_gateways_are_read_by_one_query_and_one_that_is_away_holds_up_nobody(
    spark, gateways, edge, tmp_path
):
    other = gateways("edge2", ID="edge2", **authority_of(edge))
    fill(edge, 10)
    fill(other, 10)
    both = {"url": f"{edge.url},{other.url}"}
    query = stream(spark, edge, tmp_path, {"processingTime": "0 seconds"}, **both)
    until(lambda: is_read(query, edge=10, other=10), "both gateways")
    other.kill()
    fill(edge, 10)
    until(lambda: is_read(query, edge=20, other=10), "the one that is there")
    other.start()
    fill(other, 5)
    until(
        lambda: is_read(query, edge=20, other=told(edge, url=other.url)["next"]),
        "the one that is back",
    )
    query.stop()
    read = seqs(spark, tmp_path)
    assert len(read) == len(set(read)) == 35


def authority_of(gateway) -> dict[str, str]:
    """Settings of a gateway that trusts and shows what another's authority has signed."""
    pki = gateway.data_dir / "pki"
    return {
        "SPARK__CERT": str(pki / "server.pem"),
        "SPARK__KEY": str(pki / "server.key"),
        "SPARK__CLIENT_CA": str(pki / "ca.pem"),
    }


def is_read(query, edge: int, other: int) -> bool:
    assert query.exception() is None, query.exception()
    if not query.lastProgress:
        return False
    offset = query.lastProgress["sources"][0]["endOffset"]
    # Before 4.2 a progress shows Python's form of what the JSON held.
    read = json.loads if offset.startswith('{"') else ast.literal_eval
    streams = read(offset)["streams"]
    places = {name: streams.get(f"{name}/press", {"seq": 0})["seq"] for name in ("edge1", "edge2")}
    return places == {"edge1": edge, "edge2": other}


def test_a_gateway_that_was_wiped_is_a_loss_or_a_new_beginning(spark, edge, tmp_path):
    fill(edge, 10)
    finish(stream(spark, edge, tmp_path))
    edge.stop()
    shutil.rmtree(edge.data_dir / "streams")
    edge.start()
    fill(edge, 4)
    with pytest.raises(
        PySparkException, match=r"stream press of gateway edge1 has begun anew.*failOnDataLoss"
    ):
        finish(stream(spark, edge, tmp_path))
    finish(stream(spark, edge, tmp_path, failOnDataLoss="false"))
    fill(edge, 2)
    finish(stream(spark, edge, tmp_path))
    assert [seq for _, seq in seqs(spark, tmp_path)] == sorted([*range(10), *range(6)])


def test_records_that_others_acknowledged_are_a_loss_that_is_named_or_passed(
    spark, gateways, tmp_path
):
    edge = gateways("edge1", ID="edge1", STORE__MAX_BYTES="8MiB", STORE__MIN_FREE="0B")
    fill(edge, 10)
    finish(stream(spark, edge, tmp_path))
    # Random text does not pack: the first segments are evicted while nobody reads.
    import random

    chance = random.Random(4)
    bodies = [chance.randbytes(60_000).hex() for _ in range(300)]
    edge.notify_all("press", bodies)
    with pytest.raises(
        PySparkException, match=r"records 10 to \d+ \(\d+ numbers\) of stream press.*retention"
    ):
        finish(stream(spark, edge, tmp_path))
    finish(stream(spark, edge, tmp_path, failOnDataLoss="false"))
    read = [seq for _, seq in seqs(spark, tmp_path)]
    assert len(read) == len(set(read))
    assert read[:10] == list(range(10))
    assert read[-1] == 309
    # In a batch the loss is found by an executor: its words reach the driver.
    with pytest.raises(PySparkException, match=r"records 10 to \d+ .*failOnDataLoss"):
        batch(spark, edge, startingOffsets='{"edge1": 10}').count()
