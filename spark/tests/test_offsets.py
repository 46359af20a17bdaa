"""Offsets: what a batch holds, how far it goes, whose turn it is."""

from __future__ import annotations

import json

import pytest

from pyspark_ngsi import offsets, ranges
from pyspark_ngsi.errors import OptionError
from pyspark_ngsi.fleet import Epoch, Stream
from pyspark_ngsi.http import Access
from pyspark_ngsi.offsets import Offset, Place, Span, Step, spans
from pyspark_ngsi.options import Points, ReadOptions
from pyspark_ngsi.ranges import Range

ACCESS = Access("https://127.0.0.1:8443")


def stream(begin: int, end: int, *earlier: Epoch) -> Stream:
    return Stream(ACCESS, "edge1", "press", Epoch("now", begin, end), earlier)


def offset(**places: Place) -> Offset:
    return Offset("t", places)


def step(key: str, records: int) -> Step:
    return Step(key, Place("e", 0), Epoch("e", 0, records), False)


def test_an_offset_is_the_same_text_whatever_the_order_of_its_streams():
    one = offset(b=Place("e", 1), a=Place("e", 2, 0)).document()
    other = offset(a=Place("e", 2, 0), b=Place("e", 1)).document()
    assert json.dumps(one) == json.dumps(other)
    assert Offset.read(json.loads(json.dumps(one))).document() == one


def test_a_batch_holds_what_lies_between_and_a_new_stream_from_where_it_says():
    start = offset(a=Place("e", 5), c=Place("e", 9), d=Place("old", 7))
    end = offset(a=Place("e", 8), b=Place("e", 4, 2), c=Place("e", 3), d=Place("new", 2, 1))
    assert spans(start, end) == [Span("a", "e", 5, 8), Span("b", "e", 2, 4), Span("d", "new", 1, 2)]


def test_a_blind_offset_holds_the_rest_of_whatever_log_the_start_is_in():
    fleet = stream(3, 9, Epoch("first", 0, 5), Epoch("second", 0, 6))
    end = offset(a=offsets.blind(fleet, Points("earliest")))
    all_of_it = [Span("a", "first", 0, 5), Span("a", "second", 0, 6), Span("a", "now", 3, 9)]
    assert spans(offsets.NOTHING, end) == all_of_it
    assert spans(offset(a=Place("second", 4)), end) == [Span("a", "second", 4, 6), all_of_it[2]]
    assert spans(offset(a=Place("now", 7)), end) == [Span("a", "now", 7, 9)]
    latest = offset(a=offsets.blind(fleet, Points("latest")))
    assert spans(offsets.NOTHING, latest) == []
    assert spans(offset(a=Place("first", 4)), latest) == [Span("a", "first", 4, 5), *all_of_it[1:]]


def test_numbers_without_records_fill_no_batch():
    log = Epoch("e", 0, 65_636, ((100, 65_536),))
    one = Step("a", Place("e", 50), log, False)
    assert one.available == 150
    assert one.taking(49).seq == 99
    assert one.taking(60).seq == 65_546
    assert one.taking(150).seq == 65_636
    cut = offsets.without_holes(Span("a", "e", 50, 65_600), log)
    assert cut == [Span("a", "e", 50, 100), Span("a", "e", 65_536, 65_600)]
    assert offsets.without_holes(Span("a", "e", 200, 300), log) == []
    only_a_hole = Step("a", Place("e", 5), Epoch("e", 0, 9, ((5, 9),)), False)
    assert only_a_hole.taking(only_a_hole.available).seq == 9


def test_a_small_stream_is_not_held_up_by_a_large_one():
    steps = [step("a", 1_000_000), step("b", 10), step("c", 1_000_000), step("d", 0)]
    assert offsets.share(steps, 110, [1.0] * 4) == [50, 10, 50, 0]
    assert offsets.share(steps, None, [1.0] * 4) == [1_000_000, 10, 1_000_000, 0]
    assert sum(offsets.share(steps, 1, [100.0] * 4)) >= 1, "a batch always goes on"


def test_ranges_are_divided_evenly_and_in_order():
    whole = [
        Range(ACCESS, "/p", "g", name, "e", 0, size) for name, size in [("a", 9000), ("b", 50)]
    ]
    parts = ranges.divide(whole, 4)
    assert [sum(r.end - r.begin for r in part) for part in parts] == [2263, 2263, 2263, 2261]
    joined = [(r.stream, n) for part in parts for r in part for n in range(r.begin, r.end)]
    assert joined == [("a", n) for n in range(9000)] + [("b", n) for n in range(50)]
    assert len(ranges.divide(whole[1:], 4)) == 1, "a task is not worth it"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stream": ""}, "/notify/press"),
        ({"startingOffsets": "newest"}, "earliest, latest, or JSON"),
        ({"startingOffsets": '{"edge1": -1}'}, "edge1 is earliest"),
        ({"partitions": "0"}, "above 0"),
        ({"maxBytesPerTrigger": "lots"}, "64MiB"),
        ({"consumer": "a b"}, "A-Z a-z"),
        ({"starting_offsets": "latest"}, "starting_offsets"),
        ({"url": "https://a,https://a"}, "twice"),
    ],
)
def test_an_option_that_is_wrong_is_named_with_what_it_may_be(options, says):
    given = {"url": "https://a:8443", "stream": "press", **options}
    with pytest.raises(OptionError, match=says):
        ReadOptions.from_options(given)


def test_where_to_begin_is_told_for_all_for_a_gateway_or_for_a_stream():
    text = (
        '{"*": "latest", "edge1": 3, "edge1/oven": "earliest", "edge2": {"epoch": "e", "seq": 4}}'
    )
    given = {"url": "https://a", "stream": "press", "startingOffsets": text}
    points = ReadOptions.from_options(given).starting
    assert points.of("edge1", "press") == 3
    assert points.of("edge1", "oven") == "earliest"
    assert points.of("edge2", "press") == ("e", 4)
    assert points.of("edge3", "press") == "latest"
