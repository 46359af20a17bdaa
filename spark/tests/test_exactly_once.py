"""A query to files while its driver, its gateway and the line between them fail.

`NGSI_FERRY_SPARK_RECORDS` notifications (5,000 without it), `NGSI_FERRY_SEED`.
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
from conftest import until
from line import Line
from query import Query

RECORDS = int(os.environ.get("NGSI_FERRY_SPARK_RECORDS", "5000"))
SEED = int(os.environ.get("NGSI_FERRY_SEED", "4"))
BLOWS = ["driver", "cut", "gateway", "jvm", "stall", "gateway", "driver", "cut", "gateway", "jvm"]


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


def test_each_record_is_in_the_sink_once_whatever_is_killed_or_cut(gateway, query, spark):
    chance = random.Random(SEED)
    line = Line(gateway.ports["SPARK"])
    job = query(
        {
            **gateway.options(),
            "url": line.url,
            "stream": "press",
            "consumer": "campaign",
            "maxRecordsPerTrigger": str(max(RECORDS // 40, 50)),
            "partitions": "2",
        }
    ).start()
    orion = Orion(gateway, RECORDS)
    orion.start()
    for blow in BLOWS:
        orion.allow(RECORDS // len(BLOWS))
        job.wait_for_batches(2)
        # Anywhere in a batch.
        time.sleep(chance.uniform(0, 0.4))
        strike(blow, gateway, line, job, chance)
    orion.allow(RECORDS)
    orion.join(300)

    def is_read() -> bool:
        assert job.has_failed() is None, job.has_failed()
        places = job.committed()[1]
        return bool(places) and next(iter(places.values()))["seq"] >= next_number(gateway)

    until(is_read, "the end of the stream", 300)
    batches, _ = job.committed()
    job.kill()
    rows = rows_of(spark, job.out)
    counted = Counter(row.entityId for row in rows)
    acknowledged = {f"urn:Press:{number}" for number in orion.acknowledged}
    unclear = {f"urn:Press:{number}" for number in orion.unclear}
    missing = acknowledged - set(counted)
    twice = [entity for entity, times in counted.items() if times > 1]
    print(
        f"seed {SEED}: {len(acknowledged)} acknowledged, {len(unclear)} unclear, {len(rows)} in "
        f"the sink after {batches} batches and {', '.join(BLOWS)}: "
        f"{len(missing)} missing, {len(twice)} twice"
    )
    assert not missing
    assert not twice
    assert set(counted) <= acknowledged | unclear
    files: dict[str, list[int]] = {}
    for row in rows:
        files.setdefault(row.file, []).append(row.seq)
    assert all(seqs == sorted(seqs) for seqs in files.values()), "in order within a partition"


def strike(blow: str, gateway, line: Line, job: Query, chance: random.Random) -> None:
    if blow == "driver":
        job.kill()
        job.start()
    elif blow == "jvm":
        job.kill_jvm()
        job.start()
    elif blow == "gateway":
        gateway.kill()
        time.sleep(chance.uniform(0, 0.5))
        gateway.start()
    elif blow == "cut":
        line.cut()
    else:
        line.stall()
        time.sleep(1)
        line.flow()


def next_number(gateway) -> int:
    from pyspark_ngsi import fleet
    from pyspark_ngsi.http import Access

    (stream,) = fleet.ask(Access.from_options(gateway.options())[0], ["press"]).values()
    return stream.current.next
