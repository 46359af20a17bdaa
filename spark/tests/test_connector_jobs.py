"""Jobs of the PySpark Connector go on, on PySpark 3.5 and here, and miss nothing."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT, free_port, notification, until
from connector_bed import jobs, orion, pythons  # noqa: F401

from pyspark_ngsi.http import Access, request

EXAMPLES = ROOT / "spark" / "examples"
COUNT = 240


def send(gateway, numbers) -> None:
    bodies = [notification(number, f"urn:Press:{number}") for number in numbers]
    gateway.notify_all("press", bodies, {"Fiware-Service": "plant1"})


def names(numbers) -> set[str]:
    return {f"urn:Press:{number}" for number in numbers}


def access(gateway) -> Access:
    return Access.from_options(gateway.options())[0]


def position(gateway, consumer: str) -> int:
    status = request(access(gateway), "GET", "/v1/streams/press").json()
    return next((c["position"] for c in status["consumers"] if c["name"] == consumer), -1)


def arguments(gateway) -> list[str]:
    options = gateway.options()
    return [options[name] for name in ("url", "caFile", "certFile", "keyFile")]


@pytest.mark.parametrize("python", pythons())
def test_a_job_over_prime_misses_nothing_when_its_driver_is_killed(gateways, orion, jobs, python):  # noqa: F811
    gateway = gateways(ORION__URL=orion.url)
    send(gateway, range(COUNT // 2))
    script = EXAMPLES / "connector_setpoints.py"
    job = jobs(python, script, *arguments(gateway))
    until(lambda: job.runs() and len(orion.names()) > COUNT // 8, "the first replies")
    job.kill()
    send(gateway, range(COUNT // 2, COUNT))
    job = jobs(python, script, *arguments(gateway))
    until(lambda: job.runs() and orion.names() == names(range(COUNT)), "every reply")
    # Acknowledged only after that, and all of it.
    until(lambda: job.runs() and position(gateway, "setpoints") == COUNT, "the acknowledgement")
    for name, body, headers in orion.updates:
        assert body["setpoint"]["value"] == int(name.rsplit(":", 1)[1]) + 10
        assert (headers["fiware-service"], headers["fiware-servicepath"]) == ("plant1", "/line/a")


@pytest.mark.parametrize("python", pythons())
def test_a_job_with_a_parser_of_its_own_reads_a_line_socket(gateways, orion, jobs, python):  # noqa: F811
    port, pass_through = free_port(), free_port()
    gateway = gateways(
        ORION__URL=orion.url,
        PASS_THROUGH__LISTEN=f"127.0.0.1:{pass_through}",
        LINE_SOCKET__0__LISTEN=f"127.0.0.1:{port}",
        LINE_SOCKET__0__STREAM="press",
    )
    script = EXAMPLES / "connector_socket.py"
    where = ["127.0.0.1", str(port), f"http://127.0.0.1:{pass_through}"]
    send(gateway, range(COUNT // 2))
    # What kills a batch of a strict parser: it is converted, or kept out.
    text = {"subscriptionId": "s", "data": [{"id": "urn:kv", "type": "T", "temperature": 1.5}]}
    gateway.notify("press", text, {"Ngsiv2-AttrsFormat": "keyValues"})
    gateway.notify("press", "t is 4", {"Content-Type": "text/plain"})
    job = jobs(python, script, *where)
    until(lambda: job.runs() and len(orion.names()) > COUNT // 8, "the first replies")
    job.kill()
    gateway.kill()
    gateway.start()
    job = jobs(python, script, *where)
    send(gateway, range(COUNT // 2, COUNT))
    expected = names(range(COUNT)) | {"urn:kv"}
    until(lambda: job.runs() and orion.names() == expected, "every reply")


FAILING = """
import os, sys, time
from pyspark import SparkConf, SparkContext
from pyspark_ngsi.connector import RECV_SINGLETON, Prime
RECV_SINGLETON.url, RECV_SINGLETON.ca, RECV_SINGLETON.cert, RECV_SINGLETON.key = sys.argv[1:5]
RECV_SINGLETON.stream, RECV_SINGLETON.consumer = "press", "failing"
RECV_SINGLETON.max_records = 10
out, poison = sys.argv[5:7]
def work(events):
    for event in events:
        name = event.entities[0].id
        if name == poison:
            raise ValueError("poison")
        with open(out, "a") as file:
            file.write(name + "\\n")
conf = SparkConf().setMaster("local[1]").set("spark.ui.enabled", "false")
sc = SparkContext(conf=conf.set("spark.driver.memory", "1g"))
sc.setLogLevel("ERROR")
events, ssc = Prime(sc, 1)
events.foreachRDD(lambda rdd: rdd.foreachPartition(work))
# With more than one output each batch reads its range again.
def drain(rdd):
    rdd.collect()
events.count().foreachRDD(drain)
ssc.start()
try:
    ssc.awaitTermination()
except Exception:
    # Later batches run all the same; time for what must not come of them.
    while "urn:Press:39" not in open(out).read():
        time.sleep(0.1)
    time.sleep(2)
"""


@pytest.mark.parametrize("python", pythons())
def test_a_failed_batch_comes_again_and_nothing_behind_it_is_acknowledged(
    gateway,
    jobs,  # noqa: F811
    tmp_path,
    python,
):
    script, out = tmp_path / "failing.py", tmp_path / "out"
    script.write_text(FAILING)
    send(gateway, range(40))
    job = jobs(python, script, *arguments(gateway), str(out), "urn:Press:15")
    job.process.wait(120)
    assert position(gateway, "failing") == 10
    seen = set(out.read_text().split())
    assert "urn:Press:15" not in seen
    job = jobs(python, script, *arguments(gateway), str(out), "none")
    until(lambda: job.runs() and position(gateway, "failing") == 40, "the acknowledgement")
    assert set(out.read_text().split()) == names(range(40))


def test_what_the_package_for_old_jobs_imports_is_there_in_an_old_pyspark(tmp_path, jobs):  # noqa: F811
    code = (
        "import pyspark_ngsi.connector as c; "
        "open('names','w').write(__import__('json').dumps(sorted(c.__all__)))"
    )
    script = tmp_path / "names.py"
    script.write_text(code)
    for python in pythons():
        if any(mark.args[0] for mark in python.marks):
            pytest.skip("NO PYSPARK 3.5: set NGSI_FERRY_PYSPARK_35")
        job = jobs(python.values[0], script)
        assert job.process.wait(60) == 0, job.said()
        assert "Prime" in json.loads((tmp_path / "names").read_text())
