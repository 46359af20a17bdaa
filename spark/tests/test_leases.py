"""A consumer belongs to one query."""

from __future__ import annotations

import json
import time

import pytest
from conftest import until
from test_reading import consumers, fill, finish, stream

pytest.importorskip("pyspark.sql.datasource", reason="Spark 3.5 has no data sources in Python")
from pyspark.errors import PySparkException
from pyspark.sql import functions as f
from pyspark.sql.types import StructType

from pyspark_ngsi import DefaultSource, http
from pyspark_ngsi.http import Access

ALWAYS = {"processingTime": "0 seconds"}
TAKEN = r'consumer "job" of stream press of gateway edge1 belongs to another running query'


@pytest.fixture
def edge(gateways):
    return gateways("edge1", ID="edge1", STORE__LEASE_EXPIRY="4s")


def claim(gateway, token: str, *takes_over: str):
    access = Access.from_options(gateway.options())[0]
    body = {"position": 0, "lease": token, "takes_over": list(takes_over)}
    return http.request(access, "PUT", "/v1/streams/press/consumers/job", body=body)


def test_a_second_query_on_a_consumer_fails_at_its_start_and_the_first_goes_on(
    spark, edge, tmp_path
):
    fill(edge, 10)
    first = stream(spark, edge, tmp_path / "first", ALWAYS)
    until(lambda: consumers(edge).get("job") == 10, "the first query")
    with pytest.raises(PySparkException, match=TAKEN):
        finish(stream(spark, edge, tmp_path / "second"))
    fill(edge, 10)
    until(lambda: consumers(edge).get("job") == 20, "the first query goes on")
    assert first.exception() is None
    first.stop()
    # The first gave it back when it ended: nobody waits.
    begun = time.monotonic()
    finish(stream(spark, edge, tmp_path / "third", startingOffsets="latest"))
    assert time.monotonic() - begun < 60


def test_a_query_that_was_silent_too_long_to_be_alive_is_taken_over_from(spark, edge, tmp_path):
    fill(edge, 10)
    claim(edge, "somebody-who-died")
    finish(stream(spark, edge, tmp_path))
    assert consumers(edge)["job"] >= 0


def test_a_query_whose_consumer_was_taken_over_is_fenced_off(spark, edge, tmp_path):
    fill(edge, 10)
    query = stream(spark, edge, tmp_path, ALWAYS)
    until(lambda: consumers(edge).get("job") == 10, "the query")
    offsets = sorted(
        (tmp_path / "checkpoint" / "offsets").glob("[0-9]*"), key=lambda p: int(p.name)
    )
    token = json.loads(offsets[-1].read_text().splitlines()[-1])["lease"]
    claim(edge, "a-later-start", token)
    with pytest.raises(PySparkException, match=TAKEN):
        query.awaitTermination(8)
    assert claim(edge, "a-later-start").status == 200


def test_an_empty_range_says_nothing_of_what_is_processed(spark, edge):
    """It may be asked for at a start, at the end of a batch that is still to be repeated."""
    fill(edge, 20)
    given = {**edge.options(), "stream": "press", "consumer": "job"}
    source = DefaultSource({name.lower(): value for name, value in given.items()})
    schema = StructType.fromDDL(source.schema())
    first = source.streamReader(schema)
    begin = first.initialOffset()
    end = first.latestOffset(begin)
    first.partitions(begin, end)
    first.stop()
    second = source.streamReader(schema)
    second.partitions(end, end)
    assert consumers(edge)["job"] == 0
    assert second.partitions(begin, end)
    second.commit(end)
    second.stop()
    assert consumers(edge)["job"] == 20


def test_a_long_batch_does_not_lose_the_consumer(spark, edge, tmp_path):
    fill(edge, 3)
    given = {**edge.options(), "stream": "press", "consumer": "job", "keepAlive": "1s"}
    begun = []

    def long(df, _) -> None:
        if df.select(f.max("seq")).first()[0] is not None:
            begun.append(time.monotonic())
            time.sleep(9)

    source = spark.readStream.format("ngsi").options(**given).load()
    query = source.writeStream.foreachBatch(long).option("checkpointLocation", str(tmp_path))
    query = query.start()
    until(lambda: begun, "the batch")
    until(lambda: time.monotonic() - begun[0] > 6, "longer than a silent one may hold it")
    with pytest.raises(http.Conflict, match="consumer"):
        claim(edge, "another")
    query.stop()
