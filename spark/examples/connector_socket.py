"""A job that reads the Connector's lines by itself, with socketTextStream.

It goes on as it is: the gateway has a `[[line_socket]]` with form "connector" where
the Connector had its socket. Run it with
    python connector_socket.py 127.0.0.1 9998 http://127.0.0.1:8062
"""

import json
import sys

from pyspark import SparkConf, SparkContext
from pyspark.streaming import StreamingContext

from pyspark_ngsi.connector import REPL_SINGLETON, UnstructuredReplyToBroker

HOST, PORT, BROKER = sys.argv[1:4]


def parse(line):
    """The job's own parser: strict, as the Connector's."""
    notification = json.loads(line)
    service = notification.get("Fiware-Service", "")
    for entity in notification["Body"]["data"]:
        attribute = entity["temperature"]
        if attribute["type"] != "Number" or attribute["metadata"] is None:
            raise ValueError(line)
        yield service, entity["id"], attribute["value"]


def reply(readings):
    for _service, name, temperature in readings:
        body = json.dumps({"seen": {"type": "Number", "value": temperature}})
        UnstructuredReplyToBroker(body, f"{BROKER}/v2/entities/{name}/attrs", "PATCH")


if __name__ == "__main__":
    conf = SparkConf().setMaster("local[3]").setAppName("socket")
    conf.set("spark.ui.enabled", "false").set("spark.driver.memory", "1g")
    sc = SparkContext(conf=conf)
    sc.setLogLevel("ERROR")
    REPL_SINGLETON.fiware_service = "plant1"
    ssc = StreamingContext(sc, 1)
    lines = ssc.socketTextStream(HOST, int(PORT))
    lines.flatMap(parse).foreachRDD(lambda rdd: rdd.foreachPartition(reply))
    ssc.start()
    ssc.awaitTermination()
