"""A real streaming query into Orion, to be killed: `writing_job.py SETTINGS.json`.

Where the settings name a point, the query stops there in its second batch, says
so in a file, and waits to be killed. The writer is the package's own.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pyspark.sql import SparkSession, functions
from pyspark.sql.datasource import DataSource

from pyspark_ngsi.writer import stream_writer

# Of a query's life: the first batch is let through.
STOPS_AT = 1


class Stopping(DataSource):
    """`ngsi`, with a place where a kill comes for certain."""

    @classmethod
    def name(cls):
        return "ngsi-stopping"

    def streamWriter(self, schema, overwrite):
        options = dict(self.options)
        point, told = options.pop("point"), Path(options.pop("told"))
        writer = stream_writer(options, schema, overwrite)
        commit = writer.commit
        seen = told.with_suffix(".commits")

        def stopping(messages, batch_id):
            count = len(seen.read_text()) if seen.exists() else 0
            seen.write_text("x" * (count + 1))
            stop = count == STOPS_AT
            if stop and point == "before our commit":
                wait_for_the_kill(told)
            commit(messages, batch_id)
            if stop and point == "between our commit and Spark's":
                wait_for_the_kill(told)

        writer.commit = stopping
        return writer


def wait_for_the_kill(told: Path) -> None:
    told.write_text("here")
    while True:
        time.sleep(60)


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.shuffle.partitions", str(settings["partitions"]))
        .getOrCreate()
    )
    spark.dataSource.register(Stopping)
    rows = (
        spark.readStream.schema("id string, number long")
        .option("maxFilesPerTrigger", 1)
        .json(settings["rows"])
        .repartition(settings["partitions"], "id")
    )
    # Half of them are written in a way that shows every repeat: appended to a list.
    plain = functions.format_string('{"number":{"type":"Number","value":%d}}', "number")
    once = functions.format_string(
        '{"once":{"type":"StructuredValue","value":{"$push":%d}}}', "number"
    )
    attrs = functions.when(functions.col("number") % 2 == 0, plain).otherwise(once)
    writes = rows.select("id", attrs.alias("attrs"))
    query = (
        writes.writeStream.format("ngsi-stopping")
        .options(**settings["options"], operation="update", stageBytes="2000")
        .option("point", settings["point"])
        .option("told", settings["told"])
        .option("checkpointLocation", settings["checkpoint"])
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()


if __name__ == "__main__":
    main()
