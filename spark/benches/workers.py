"""One reader in a Spark of its own, told of by `read.py`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meter import CpuMeter

PATIENCE_S = 900


def session() -> Any:
    """Start Spark and its Python workers: a query runs for days, its start is no question."""
    from pyspark.sql import SparkSession

    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        # socketTextStream keeps a backlog in it, and stands still where there is no room.
        .config("spark.driver.memory", "3g")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    spark.range(1000).rdd.map(lambda row: row[0]).count()
    return spark


class Counted:
    """Records that a reader has counted, and the query that counts, where there is one."""

    def __init__(self) -> None:
        self.records = 0
        self.query: Any = None

    def stream(self, source: Any, trigger: str | None) -> Counted:
        """Count the rows of each batch of a streaming DataFrame."""

        def count(df: Any, _batch: int) -> None:
            self.records += df.count()

        writer = source.writeStream.foreachBatch(count)
        self.query = (writer.trigger(processingTime=trigger) if trigger else writer).start()
        return self

    def reaches(self, records: int) -> None:
        """Wait until so many are counted."""
        end = time.monotonic() + PATIENCE_S
        while self.records < records:
            if self.query is not None and self.query.exception() is not None:
                raise self.query.exception()
            if time.monotonic() > end:
                raise TimeoutError(f"{self.records} of {records}")
            time.sleep(0.02)


def read(reader: str, task: dict[str, Any]) -> dict[str, Any]:
    """Warm up, then measure; gives records, seconds and CPU seconds."""
    spark, meter = session(), CpuMeter()
    if reader.startswith("ngsi"):
        return _ngsi(spark, meter, reader, task)
    counted = Counted()
    if reader == "socket":
        source = spark.readStream.format("socket").option("host", "127.0.0.1")
        counted.stream(source.option("port", task["port"]).load(), task["trigger"])
    else:
        _dstream(spark, counted, reader, task)
    counted.reaches(task["warm_up"])
    Path(task["is_warm"]).touch()
    return _measure(meter, counted, task["records"])


def _ngsi(spark: Any, meter: CpuMeter, reader: str, task: dict[str, Any]) -> dict[str, Any]:
    def query(what: str, most: int, trigger: str | None) -> Counted:
        source = spark.readStream.format("ngsi").options(**task["options"])
        source = source.option("raw", "true") if "raw" in reader else source
        source = source.option("consumer", f"{what}-{os.getpid()}").option("partitions", 2)
        return Counted().stream(source.option("maxRecordsPerTrigger", most).load(), trigger)

    warm_up = query("warm", task["warm_up"] // task["slices"], None)
    warm_up.reaches(task["warm_up"])
    warm_up.query.stop()
    measured = query("bench", task["most"], task["trigger"])
    # The first batch has the query's start in it.
    measured.reaches(1)
    return _measure(meter, measured, task["records"])


def _dstream(spark: Any, counted: Counted, reader: str, task: dict[str, Any]) -> None:
    from pyspark.streaming import StreamingContext

    context = StreamingContext(spark.sparkContext, 1)
    received = context.socketTextStream("127.0.0.1", task["port"])
    if reader.endswith("json.loads"):
        received = received.map(lambda line: json.loads(json.loads(line)["body"]))

    def add(rdd: Any) -> None:
        counted.records += rdd.count()

    received.foreachRDD(add)
    context.start()


def _measure(meter: CpuMeter, counted: Counted, records: int) -> dict[str, Any]:
    before, used, at = counted.records, meter.seconds(), time.monotonic()
    counted.reaches(records)
    return {
        "measured": counted.records - before,
        "seconds": time.monotonic() - at,
        "cpu": meter.seconds() - used,
    }


def latency(_reader: str, task: dict[str, Any]) -> dict[str, Any]:
    """Give mean, 99th percentile and worst ms from a notification's storing to its batch's code."""
    from pyspark.sql import functions as f

    spark = session()
    seen: list[tuple[float, float, int]] = []

    def note(df: Any, _batch: int) -> None:
        times = df.select(f.unix_micros("received").alias("us"))
        mean, first, count = times.agg(f.avg("us"), f.min("us"), f.count("us")).first()
        if count:
            now = time.time() * 1e6
            seen.append(((now - mean) / 1e3, (now - first) / 1e3, count))

    source = spark.readStream.format("ngsi").options(**task["options"])
    source = source.option("consumer", f"latency-{os.getpid()}").option("startingOffsets", "latest")
    query = source.load().writeStream.foreachBatch(note).start()
    _until(lambda: len(seen) > task["slices"], query)
    warm, end = len(seen), time.monotonic() + task["seconds"]
    _until(lambda: time.monotonic() > end, query)
    query.stop()
    measured = seen[warm:]
    records = sum(count for _, _, count in measured)
    oldest = sorted(worst for _, worst, _ in measured)
    return {
        "batches": len(measured),
        "mean": sum(mean * count for mean, _, count in measured) / records,
        "median_oldest": oldest[len(oldest) // 2],
        "worst": oldest[-1],
    }


def _until(condition: Callable[[], bool], query: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if query.exception() is not None:
            raise query.exception()
        if time.monotonic() > end:
            raise TimeoutError("no batches came")
        time.sleep(0.02)
