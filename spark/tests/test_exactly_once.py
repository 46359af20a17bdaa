"""A query to files while its driver, its gateway, a relay and the lines between them fail.

`NGSI_FERRY_SPARK_RECORDS` notifications (3,000 without it), `NGSI_FERRY_SEED`.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import Gateway, until
from line import Line
from query import Query

from pyspark_ngsi import fleet
from pyspark_ngsi.http import Access

RECORDS = int(os.environ.get("NGSI_FERRY_SPARK_RECORDS", "3000"))
SEED = int(os.environ.get("NGSI_FERRY_SEED", "4"))
BLOWS = ["driver", "cut", "gateway", "jvm", "stall", "gateway", "driver", "cut", "gateway", "jvm"]
RELAYED = [
    "driver",
    "relay",
    "cut",
    "gateway",
    "jvm",
    "relay",
    "driver",
    "uplink",
    "gateway",
    "jvm",
]


class Orion(threading.Thread):
    """Notifies of numbers, one by one, and knows which were acknowledged."""

    def __init__(self, gateway, records: int) -> None:
        super().__init__(daemon=True)
        self._gateway = gateway
        self._left = iter(range(records))
        self.records = records
        self.acknowledged: list[int] = []
        self.unclear: list[int] = []
        self._allowed = threading.Semaphore(0)

    def allow(self, records: int) -> None:
        """Let so many more be sent."""
        self._allowed.release(max(records, 1))

    def run(self) -> None:
        connection = None
        for number in self._left:
            self._allowed.acquire()
            entity = {"id": f"urn:Press:{number}", "type": "Press", "temperature": number}
            body = json.dumps({"subscriptionId": "s", "data": [entity]}, separators=(",", ":"))
            try:
                if connection is None:
                    port = self._gateway.ports["INTAKE"]
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request("POST", "/notify/press", body=body)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 204, answer.status
                self.acknowledged.append(number)
            except OSError:
                # Stored or not: Orion does not send it again, and does not know.
                self.unclear.append(number)
                connection = None
                time.sleep(0.02)
            except http.client.HTTPException:
                self.unclear.append(number)
                connection = None


@pytest.fixture
def query(tmp_path):
    made: list[Query] = []

    def make(options: dict[str, str]) -> Query:
        folder = tmp_path / "query"
        folder.mkdir()
        made.append(Query(folder, options))
        return made[-1]

    yield make
    for one in made:
        one.end()


def rows_of(spark, out: Path) -> list:
    """Rows that the sink has, with the file of each in the order of the file."""
    return (
        spark.read.parquet(str(out))
        .selectExpr("entityId", "seq", "entityIndex", "input_file_name() AS file")
        .collect()
    )


class Parts:
    """What there is to strike."""

    def __init__(self, gateway: Gateway, line: Line, job: Query) -> None:
        self.gateway, self.line, self.job = gateway, line, job
        self.relay: Gateway | None = None
        self.uplink: Line | None = None
        self.chance = random.Random(SEED)

    def strike(self, blow: str) -> None:
        # Anywhere in a batch.
        time.sleep(self.chance.uniform(0, 0.4))
        if blow == "driver":
            self.job.kill()
            self.job.start()
        elif blow == "jvm":
            self.job.kill_jvm()
            self.job.start()
        elif blow in ("gateway", "relay"):
            struck = self.gateway if blow == "gateway" else self.relay
            struck.kill()
            time.sleep(self.chance.uniform(0, 0.5))
            struck.start()
        elif blow == "cut":
            self.line.cut()
        elif blow == "uplink":
            self.uplink.cut()
        else:
            self.line.stall()
            time.sleep(1)
            self.line.flow()


def job_on(gateway: Gateway, line: Line, query) -> Query:
    return query(
        {
            **gateway.options(),
            "url": line.url,
            "stream": "press",
            "consumer": "campaign",
            "maxRecordsPerTrigger": str(max(RECORDS // 40, 50)),
            "partitions": "2",
        }
    )


def test_each_record_is_in_the_sink_once_whatever_is_killed_or_cut(gateway, query, spark):
    line = Line(gateway.ports["SPARK"])
    parts = Parts(gateway, line, job_on(gateway, line, query).start())
    campaign(spark, parts, BLOWS)


def test_each_record_of_a_gateway_behind_a_relay_is_in_the_sink_once(relays, query, spark):
    relay, behind = relays
    line, uplink = Line(relay.ports["SPARK"]), Line(relay.ports["SPARK"])
    gateway = behind("edge1", uplink.url)
    # The query knows the stream only once the relay has heard of it.
    gateway.notify("press", "before all")
    until(lambda: ends(relay, "edge1"), "the first record at the relay")
    parts = Parts(gateway, line, job_on(relay, line, query).start())
    parts.relay, parts.uplink = relay, uplink
    campaign(spark, parts, RELAYED)


def campaign(spark, parts: Parts, blows: list[str]) -> None:
    """Notify, strike, and look at what the sink has in the end."""
    gateway, job = parts.gateway, parts.job
    orion = Orion(gateway, RECORDS)
    orion.start()
    for blow in blows:
        orion.allow(RECORDS // len(blows))
        job.wait_for_batches(2)
        parts.strike(blow)
    orion.allow(RECORDS)
    orion.join(300)

    def is_read() -> bool:
        assert job.has_failed() is None, job.has_failed()
        places = job.committed()[1]
        (end,) = ends(gateway).values()
        return any(place["seq"] >= end for place in places.values())

    until(is_read, "the end of the stream", 300)
    batches, _ = job.committed()
    job.kill()
    rows = rows_of(spark, job.out)
    counted = Counter(row.entityId for row in rows)
    # What is no notification is a row without an entity.
    counted.pop(None, None)
    acknowledged = {f"urn:Press:{number}" for number in orion.acknowledged}
    unclear = {f"urn:Press:{number}" for number in orion.unclear}
    missing = acknowledged - set(counted)
    twice = [entity for entity, times in counted.items() if times > 1]
    print(
        f"seed {SEED}: {len(acknowledged)} acknowledged, {len(unclear)} unclear, {len(rows)} in "
        f"the sink after {batches} batches and {', '.join(blows)}: "
        f"{len(missing)} missing, {len(twice)} twice"
    )
    assert not missing
    assert not twice
    assert set(counted) <= acknowledged | unclear
    files: dict[str, list[int]] = {}
    for row in rows:
        files.setdefault(row.file, []).append(row.seq)
    assert all(seqs == sorted(seqs) for seqs in files.values()), "in order within a partition"


def ends(gateway: Gateway, name: str | None = None) -> dict[str, int]:
    """Where the stream ends at a gateway, or at a relay for one of its gateways."""
    streams = fleet.ask(Access.from_options(gateway.options())[0], ["press"])
    wanted = [one for one in streams.values() if name in (None, one.gateway)]
    return {one.key: one.current.next for one in wanted}
