"""Every captured notification is an event, or is told to be none; settings and replies."""

from __future__ import annotations

import base64
import pickle

import pytest
from conftest import ROOT

from pyspark_ngsi.connector import (
    RECV_SINGLETON,
    REPL_SINGLETON,
    NGSIAttribute,
    NGSIEventLD,
    NGSIEventv2,
    ReplyToBroker,
    SemistructuredReplyToBroker,
    UnstructuredReplyToBroker,
    settings,
)
from pyspark_ngsi.connector.events import NotAnEvent, event_of
from pyspark_ngsi.errors import OptionError, Refused

FIXTURES = ROOT / "tests" / "fixtures" / "notifications"
NO_EVENTS = {
    "custom-GET",
    "custom-PATCH-json",
    "custom-PUT-payload",
    "custom-payload-null",
    "hand-custom-text",
    "hand-empty-body",
    "hand-malformed-json",
    "hand-not-utf-8",
    "values",
    "values-attrs",
}


def record(path) -> dict:
    head, body = path.read_bytes().split(b"\r\n\r\n", 1)
    lines = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:]]
    told = {"seq": 0, "received": "2026-11-22T10:58:37.377157Z"}
    told["headers"] = {name.lower(): value for name, value in lines}
    return {**told, "body_base64": base64.b64encode(body).decode()}


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.http")), ids=lambda path: path.stem)
def test_a_captured_notification_is_an_event_or_told_to_be_none(path):
    if path.stem in NO_EVENTS:
        with pytest.raises(NotAnEvent):
            event_of(record(path))
        return
    event = event_of(record(path))
    assert isinstance(event, NGSIEventLD if path.stem.startswith("ld-") else NGSIEventv2)
    assert event.creationtime == "2026-11-22T10:58:37.377157"
    for entity in event.entities:
        assert entity.id
        for attribute in entity.attrs.values():
            instances = attribute if isinstance(attribute, list) else [attribute]
            assert all(isinstance(one, NGSIAttribute) for one in instances)
    assert pickle.loads(pickle.dumps(event)) == event


@pytest.mark.parametrize("form", ["normalized", "concise", "simplified", "geo-json"])
def test_the_forms_of_ngsi_ld_have_the_same_values(form):
    attributes = event_of(record(FIXTURES / f"ld-{form}.http")).entities[0].attrs
    assert attributes["temperature"].value == 22.25
    assert attributes["label"].type == "LanguageProperty"
    assert attributes["location"].type == "GeoProperty"
    assert attributes["location"].value["coordinates"] == [2.1, 41.4]


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"data":[{"id":"a","type":"Feature","properties":[1]}]}',
        '{"data":[{"id":["a"],"type":{}},7]}',
    ],
)
def test_what_no_event_can_be_made_of_is_told_to_be_none_and_costs_no_batch(body):
    told = {"seq": 0, "received": "2026-11-22T10:58:37.377157Z", "headers": {}, "body": body}
    with pytest.raises(NotAnEvent):
        event_of(told)


def test_a_value_may_have_anything_as_its_type():
    schema = '{"type":["string","null"],"coordinates":[]}'
    entity = f'{{"id":"a","type":"T","x":{{"type":"Property","value":{schema}}},"y":[{schema}]}}'
    body = f'{{"type":"Notification","data":[{entity}]}}'
    told = {"seq": 0, "received": "2026-11-22T10:58:37.377157Z", "headers": {}, "body": body}
    attributes = event_of(told).entities[0].attrs
    assert attributes["x"].type == attributes["y"].type == "Property"
    assert attributes["x"].value["type"] == ["string", "null"]


@pytest.fixture(autouse=True)
def _settings_as_they_were():
    kept = [dict(one._values) for one in (RECV_SINGLETON, REPL_SINGLETON)]
    yield
    for one, values in zip((RECV_SINGLETON, REPL_SINGLETON), kept):
        one._values.clear()
        one._values.update(values)


def test_a_setting_that_there_is_none_of_is_told():
    with pytest.raises(AttributeError, match="fiware_service"):
        REPL_SINGLETON.fiware_servic = "plant1"


def test_a_singleton_in_a_pickled_function_is_the_workers_own():
    assert pickle.loads(pickle.dumps(REPL_SINGLETON)) is settings.REPL_SINGLETON


def test_values_that_do_not_fit_the_placeholders_are_told():
    with pytest.raises(ValueError, match="2 placeholders"):
        SemistructuredReplyToBroker([1], "%%TOREPLACE%% %%TOREPLACE%%", "http://orion/v2/x")


def test_a_reply_that_the_gateway_refuses_is_raised(gateway):
    options = gateway.options()
    RECV_SINGLETON.url, RECV_SINGLETON.ca = options["url"], options["caFile"]
    RECV_SINGLETON.cert, RECV_SINGLETON.key = options["certFile"], options["keyFile"]
    with pytest.raises(Refused, match="404"):
        UnstructuredReplyToBroker("{}", "http://orion:1026/nowhere", "POST")
    with pytest.raises(OptionError, match="blueprint_file"):
        ReplyToBroker([1], "http://orion:1026/v2/entities", "POST")
