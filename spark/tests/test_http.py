"""What a data scientist reads when the gateway cannot be used."""

from __future__ import annotations

import dataclasses
import pickle
import threading

import pytest
from conftest import free_port, until

from pyspark_ngsi.errors import Conflict, OptionError, Refused, Unreachable, Untrusted
from pyspark_ngsi.http import Access, request, seconds, segment

STREAM = "/v1/streams/default"


def access(gateway, **changed) -> Access:
    (known,) = Access.from_options({**gateway.options(), "retryTimeout": "5s"})
    return dataclasses.replace(known, **changed)


def test_a_gateway_answers_and_the_connection_is_kept(gateway):
    for _ in range(2):
        assert request(access(gateway), "GET", STREAM).json()["name"] == "default"


def test_an_authority_that_is_not_the_gateways_is_named_with_the_option_to_set(gateway):
    with pytest.raises(Untrusted, match="caFile"):
        request(access(gateway, ca_file=None), "GET", STREAM)


def test_a_missing_client_certificate_is_named_with_the_options_to_set(gateway):
    with pytest.raises(Untrusted, match="certFile and keyFile"):
        request(access(gateway, cert_file=None, key_file=None), "GET", STREAM)


def test_a_certificate_for_another_name_is_named(gateways):
    gateway = gateways()
    other = access(gateway, url=gateway.url.replace("127.0.0.1", "127.0.0.2"))
    # It listens on 127.0.0.1 only; a second one with the first's certificate does not.
    pki = gateway.data_dir / "pki"
    settings = {"SPARK__CERT": pki / "server.pem", "SPARK__KEY": pki / "server.key"}
    settings["SPARK__CLIENT_CA"] = pki / "ca.pem"
    second = gateways("second", **{name: str(path) for name, path in settings.items()})
    second.stop()
    second.settings["SPARK__LISTEN"] = f"127.0.0.2:{second.ports['SPARK']}"
    second.start()
    other = dataclasses.replace(other, url=second.settings["SPARK__LISTEN"].join(["https://", ""]))
    with pytest.raises(Untrusted, match="pki init --name"):
        request(other, "GET", STREAM)


def test_a_gateway_that_is_away_is_waited_for(gateway):
    request(access(gateway), "GET", STREAM)
    gateway.kill()
    answers = []
    patient = access(gateway, retry_timeout_s=60)
    asking = threading.Thread(target=lambda: answers.append(request(patient, "GET", STREAM)))
    asking.start()
    gateway.start()
    asking.join(60)
    assert answers[0].status == 200


def test_a_gateway_that_stays_away_is_told_with_the_option_to_wait_longer():
    nobody = Access(f"https://127.0.0.1:{free_port()}", retry_timeout_s=0.3)
    with pytest.raises(Unreachable, match="retryTimeout"):
        request(nobody, "GET", STREAM)


def test_a_port_without_tls_is_told(gateway):
    with pytest.raises(Untrusted, match=r"spark\.listen"):
        request(access(gateway, url=f"https://127.0.0.1:{gateway.ports['INTAKE']}"), "GET", STREAM)


def test_a_refusal_brings_the_gateways_own_words_over_a_pickle(gateway):
    with pytest.raises(Refused, match="there is no stream oven") as refused:
        request(access(gateway), "GET", "/v1/streams/oven")
    again = pickle.loads(pickle.dumps(refused.value))
    assert (again.status, str(again)) == (404, str(refused.value))


def test_a_position_beyond_the_end_is_a_conflict_with_its_answer(gateway):
    gateway.notify("default", "x")
    until(lambda: request(access(gateway), "GET", STREAM).json()["next"] == 1, "the record")
    path = f"{STREAM}/consumers/{segment('job')}"
    with pytest.raises(Conflict) as refused:
        request(access(gateway), "PUT", path, body={"position": 7})
    assert refused.value.answer["next"] == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, '"url" is missing'),
        ({"url": "http://edge1:8443"}, "https://HOST:PORT"),
        ({"url": "https://edge1:8443/v1"}, "https://HOST:PORT"),
        ({"url": "https://edge1:8443", "caFile": "/no/such.pem"}, "caFile"),
        ({"url": "https://edge1:8443", "retryTimeout": "soon"}, "500ms, 30s, 5m, 1h"),
    ],
)
def test_an_option_that_cannot_work_is_told_before_anything_is_tried(options, expected):
    with pytest.raises(OptionError, match=expected):
        Access.from_options(options)


def test_several_gateways_and_durations_are_read():
    both = Access.from_options({"URL": "https://a:1, https://b:2", "retrytimeout": "2m"})
    assert [(one.url, one.retry_timeout_s) for one in both] == [
        ("https://a:1", 120.0),
        ("https://b:2", 120.0),
    ]
    assert [seconds(text) for text in ("7", "500ms", "1.5h")] == [7.0, 0.5, 5400.0]
