"""What a streaming query does beside Spark's driver: plan batches, hold its consumer."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any

from pyspark_ngsi import offsets, ranges
from pyspark_ngsi.errors import DataLoss, Unreachable
from pyspark_ngsi.fleet import Epoch, Fleet, Stream, end_of
from pyspark_ngsi.lease import Keeper
from pyspark_ngsi.offsets import Offset, Place, Step
from pyspark_ngsi.options import ReadOptions
from pyspark_ngsi.ranges import Range

log = logging.getLogger("pyspark_ngsi")
FLUSH_S = 1.0


class Driver:
    """One start of a query.

    Spark writes an offset down before it calls `plan` with it. So the token in it is
    in the checkpoint before any gateway hears of it, and whoever starts from that
    checkpoint can name it.
    """

    def __init__(self, options: ReadOptions) -> None:
        assert options.consumer is not None
        self._options = options
        self._token = secrets.token_hex(16)
        self._fleet = Fleet(options.accesses, options.streams)
        self._keeper = Keeper(options.consumer, self._token, options.keep_alive_s)
        self._last: Offset | None = None
        """The end of the last batch; before the first, None."""
        self._planned: Offset | None = None
        self._target: dict[str, Stream] | None = None
        self._is_limit_told = False
        self._refilling: dict[str, Place] = {}
        """Where the query waits for a relay that lost its records, by stream."""

    def latest(self, told_start: Mapping[str, Any] | None, is_limited: bool) -> dict[str, Any]:
        """Plan how far the next batch goes; see `NgsiStreamReader.latestOffset`."""
        self._keeper.check()
        start = self._last if told_start is None else Offset.read(told_start)
        if told_start is None:
            self._tell_of_limits()
            # Spark plans a batch and asks on only when it is done.
            if self._planned is not None:
                self._acknowledge(self._planned)
        else:
            self.processed(told_start)
        if self._target is not None:
            seen = self._target
        else:
            # A beginning without one that is slow would be a beginning without it.
            seen = self._fleet.look(everyone=start is None)
        if start is None:
            places = {k: offsets.blind(s, self._options.starting) for k, s in seen.items()}
        else:
            places = self._advance(start, seen, is_limited)
        end = Offset(self._token, places)
        if start is not None and end == start:
            self._keeper.flush(FLUSH_S)
            return dict(told_start) if told_start is not None else end.document()
        self._last = end
        return end.document()

    def note_target(self) -> None:
        """Note what there is now: nothing beyond is read."""
        self._target = self._fleet.look(everyone=True)

    def ends(self) -> dict[str, Any] | None:
        """Give where all known streams end."""
        known = self._fleet.known
        places = {key: Place(s.current.epoch, s.current.next) for key, s in known.items()}
        return Offset(self._token, places).document() if places else None

    def plan(self, told_start: Mapping[str, Any], told_end: Mapping[str, Any]) -> list[Range]:
        """Give the ranges of a batch, and hold the consumer of its streams."""
        self._keeper.check()
        start, end = Offset.read(told_start), Offset.read(told_end)
        self._last = self._planned = end
        spans = offsets.spans(start, end)
        streams = self._known({span.key for span in spans}, list(end.places))
        self._claim(start, end, streams)
        for key, place in end.places.items():
            at = start.places.get(key)
            if place.earlier is not None and at is not None and key in streams:
                self._judge_blind(streams[key], at, place)
        parts = []
        for span in spans:
            current = streams[span.key].current
            is_current = current.epoch == span.epoch
            parts += offsets.without_holes(span, current) if is_current else [span]
        return [Range.of(streams[s.key], s.epoch, s.begin, s.end) for s in parts]

    def processed(self, told_end: Mapping[str, Any]) -> None:
        """Acknowledge everything below an offset."""
        self._keeper.check()
        self._acknowledge(Offset.read(told_end))

    def stop(self) -> None:
        """End threads, give the consumer back."""
        self._keeper.release()
        self._fleet.stop()

    def _acknowledge(self, end: Offset) -> None:
        for key, place in end.places.items():
            self._keeper.acknowledge(key, place.epoch, place.seq)

    def _advance(
        self, start: Offset, seen: Mapping[str, Stream], is_limited: bool
    ) -> dict[str, Place]:
        """Go on in every stream that told of itself; the others stay where they are."""
        steps = [self._step(stream, start.places.get(key)) for key, stream in sorted(seen.items())]
        options = self._options
        taken = [step.available for step in steps]
        if is_limited and options.max_records is not None:
            taken = offsets.share(steps, options.max_records, [1.0] * len(steps))
        if is_limited and options.max_bytes is not None:
            weights = [step.bytes_per_record for step in steps]
            by_bytes = offsets.share(steps, options.max_bytes, weights)
            taken = [min(both) for both in zip(taken, by_bytes)]
        places = dict(start.places)
        for step, records in zip(steps, taken):
            to, at = step.taking(records), places.get(step.key)
            # One that stays where it is stays as it is written, so that offsets are equal.
            if at is None or (at.epoch, at.seq) != (to.epoch, to.seq):
                places[step.key] = to
        return places

    def _step(self, stream: Stream, at: Place | None) -> Step:
        """Tell how far a stream may go from where the query is in it."""
        options = self._options
        is_new = at is None
        if at is None:
            at = offsets.beginning(stream, options.starting)
        logs = {log.epoch: log for log in (*stream.earlier, stream.current)}
        here = logs.get(at.epoch)
        following = list(logs.values())
        if here is None and stream.is_unheard:
            # A relay that was restored from before this log knows nothing of it yet.
            self._note_refilling(stream, at)
            here = Epoch(at.epoch, at.seq, at.seq)
        elif here is None:
            self._judge_lost_log(stream, at)
            here = following[0]
            at, is_new = Place(here.epoch, here.earliest), True
        elif at.seq == here.next and here is not stream.current:
            # This log is read to its end: on to the next.
            here = following[following.index(here) + 1]
            at, is_new = Place(here.epoch, here.earliest), True
        elif at.seq > here.next and stream.is_replica and here is stream.current:
            self._note_refilling(stream, at)
        elif at.seq > here.next:
            one = Range.of(stream, at.epoch, here.next, at.seq)
            why = (
                f"the stream ends at {here.next} and the query was at {at.seq}: its gateway was "
                "set back to an earlier state"
            )
            ranges.lost(one, here.next, at.seq, why, options.fail_on_data_loss)
            at = Place(here.epoch, here.next)
        elif here.earliest > at.seq and options.fail_on_data_loss:
            one = Range.of(stream, at.epoch, at.seq, here.next)
            if (gone := ranges.probe(one)) is not None:
                after = int(gone.answer.get("earliest", here.earliest))
                why = ranges.WHY.get(str(gone.answer.get("reason")), str(gone))
                ranges.lost(one, at.seq, after, why, True)
        place = Place(at.epoch, at.seq)
        return Step(stream.key, place, here, is_new, stream.bytes_per_record)

    def _note_refilling(self, stream: Stream, at: Place) -> None:
        """Tell once that a relay has less than the query has read: it was wiped or restored."""
        if self._refilling.get(stream.key) != at:
            self._refilling[stream.key] = at
            log.warning(
                "%s, a relay, has less of %s than the query has read (%s of epoch %s): it lost its "
                "records, and the query goes on there once the gateway has filled it again",
                stream.access.url,
                stream.key,
                at.seq,
                at.epoch,
            )

    def _judge_lost_log(self, stream: Stream, at: Place) -> None:
        """Raise or warn for a log that is not there any more, unless it was read to its end."""
        if end_of(stream.access, stream.path, at.epoch) == at.seq:
            return
        text = (
            f"stream {stream.name} of gateway {stream.gateway} has begun anew (epoch "
            f"{stream.current.epoch}): its gateway was wiped, or restored from a backup. The query "
            f"was at {at.seq} of epoch {at.epoch}, which is gone with whatever came after that. To "
            f"go on at the new beginning ({stream.current.earliest}) set "
            '.option("failOnDataLoss", "false")'
        )
        if self._options.fail_on_data_loss:
            raise DataLoss(text)
        log.warning("%s", text)

    def _judge_blind(self, stream: Stream, at: Place, to: Place) -> None:
        """Tell of losses that could not be seen before the start was known."""
        known = {log.epoch for log in to.earlier or ()} | {to.epoch}
        if at.epoch not in known:
            self._judge_lost_log(stream, at)
        elif at.epoch == to.epoch and at.seq > to.seq:
            one = Range.of(stream, at.epoch, to.seq, at.seq)
            why = f"the stream ended at {to.seq}: its gateway was set back to an earlier state"
            ranges.lost(one, to.seq, at.seq, why, self._options.fail_on_data_loss)

    def _claim(self, start: Offset, end: Offset, streams: Mapping[str, Stream]) -> None:
        wanted = []
        for key, place in sorted(end.places.items()):
            if key not in streams or self._keeper.holds(key, place.epoch):
                continue
            at = start.places.get(key)
            is_same = at is not None and at.epoch == place.epoch
            position = at.seq if is_same and at is not None else place.begin
            if at is None and place.new is not None:
                position = place.new
            if position is None:
                position = place.seq
            wanted.append((streams[key], place.epoch, min(position, place.seq)))
            for log_before in place.earlier or ():
                begin = log_before.earliest
                if at is not None and at.epoch == log_before.epoch:
                    begin = at.seq
                wanted.append((streams[key], log_before.epoch, begin))
        if start.places == end.places:
            # Where a version of Spark shows a source at a start what it saw last, that is the
            # end of a batch that may still have to be repeated. A position that is lower than
            # the gateway's moves nothing.
            wanted = [(stream, epoch, 0) for stream, epoch, _ in wanted]
        self._keeper.claim(wanted, [start.lease, end.lease])

    def _known(self, needed: set[str], wanted: list[str]) -> Mapping[str, Stream]:
        """Give the streams that were told of; waits for those that are needed."""
        deadline = time.monotonic() + max(a.retry_timeout_s for a in self._options.accesses)
        known = self._fleet.known
        looks = not all(key in known for key in wanted)
        while looks:
            known = {**self._fleet.look(), **self._fleet.known}
            missing = sorted(needed - set(known))
            looks = bool(missing)
            if looks and time.monotonic() > deadline:
                raise Unreachable(
                    f"the query has begun a batch with records of {', '.join(missing)}, and none "
                    "of its urls gives them (retryTimeout has passed): start their gateways, or "
                    'add their url to the option "url"'
                )
            if looks:
                time.sleep(ranges.WAIT_S / 10)
        return known

    def _tell_of_limits(self) -> None:
        options = self._options
        if (options.max_records or options.max_bytes) and not self._is_limit_told:
            self._is_limit_told = True
            log.warning(
                "maxRecordsPerTrigger and maxBytesPerTrigger need Spark 4.2: each batch takes all "
                "that there is"
            )
