"""A job as users of the PySpark Connector have it: temperatures in, set points out.

Moved over by its import, and by telling RECV_SINGLETON where the gateway is. Run it with
    python connector_setpoints.py https://edge1:8443 ca.pem client.pem client.key
"""

import sys

from pyspark import SparkConf, SparkContext

from pyspark_ngsi.connector import (
    RECV_SINGLETON,
    REPL_SINGLETON,
    Prime,
    SemistructuredReplyToBroker,
)

RECV_SINGLETON.url, RECV_SINGLETON.ca, RECV_SINGLETON.cert, RECV_SINGLETON.key = sys.argv[1:5]
RECV_SINGLETON.stream = "press"
RECV_SINGLETON.consumer = "setpoints"
REPL_SINGLETON.fiware_service = "plant1"
REPL_SINGLETON.fiware_servicepath = "/line/a"

BODY = '{"setpoint": {"type": "Number", "value": %%TOREPLACE%%}}'


def temperatures(event):
    return [(entity.id, entity.attrs["temperature"].value) for entity in event.entities]


def reply(readings):
    for name, temperature in readings:
        # Host and port are those that the job always had: the gateway keeps the reply for Orion.
        url = f"http://orion:1026/v2/entities/{name}/attrs"
        SemistructuredReplyToBroker([temperature + 10], BODY, url, "PATCH")


if __name__ == "__main__":
    conf = SparkConf().setMaster("local[2]").setAppName("setpoints")
    conf.set("spark.ui.enabled", "false").set("spark.driver.memory", "1g")
    sc = SparkContext(conf=conf)
    sc.setLogLevel("ERROR")
    events, ssc = Prime(sc, 1)
    events.flatMap(temperatures).foreachRDD(lambda rdd: rdd.foreachPartition(reply))
    ssc.start()
    ssc.awaitTermination()
