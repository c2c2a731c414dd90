"""A hand-made trace in Perfetto's own classes; tests/cpp/loop/test_trace.cpp writes the same with ours.

python tests/support/perfetto_golden.py    writes golden.pftrace anew
"""

from __future__ import annotations

from pathlib import Path

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as perfetto

GOLDEN = Path(__file__).parent / "golden.pftrace"
BEGIN = perfetto.TrackEvent.TYPE_SLICE_BEGIN
END = perfetto.TrackEvent.TYPE_SLICE_END
INSTANT = perfetto.TrackEvent.TYPE_INSTANT
COUNTER = perfetto.TrackEvent.TYPE_COUNTER
TICK, LEVEL = 3, 200
LATE = 1 << 40


def golden() -> bytes:
    """The trace as protobuf encodes it."""
    trace = perfetto.Trace()
    process = trace.packet.add(trusted_packet_sequence_id=1, sequence_flags=1).track_descriptor
    process.uuid = 1
    process.process.pid = 4711
    process.process.process_name = "keystep ä"
    tick = trace.packet.add(trusted_packet_sequence_id=1).track_descriptor
    tick.uuid, tick.name, tick.parent_uuid = TICK, "tick", 1
    level = trace.packet.add(trusted_packet_sequence_id=1).track_descriptor
    level.uuid, level.name, level.parent_uuid = LEVEL, "chunk buffer", 1
    level.counter.unit_name = "actions"

    outer = _event(trace, 0, type=BEGIN, name_iid=1, track_uuid=TICK, flow_ids=[TICK << 40 | 1])
    _number(outer, 1)
    _intern(outer, (1, "outer"), (1, "number"))
    _intern(_event(trace, 127, type=BEGIN, name_iid=2, track_uuid=TICK), (2, "inner"))
    _event(trace, 128, type=END, track_uuid=TICK)
    point = _event(trace, 16384, type=INSTANT, name_iid=3, track_uuid=TICK)
    _number(point, -1)
    _intern(point, (3, "point"))
    _event(trace, LATE, type=END, track_uuid=TICK)
    _event(trace, LATE + 1, type=COUNTER, track_uuid=LEVEL, counter_value=-300)
    _number(_event(trace, LATE + 2, type=BEGIN, name_iid=1, track_uuid=TICK), (1 << 63) - 1)
    _event(trace, LATE + 3, type=END, track_uuid=TICK)
    _event(trace, 0, type=INSTANT, name_iid=2, track_uuid=TICK)
    return trace.SerializeToString(deterministic=True)


def _event(trace, timestamp, **fields):
    return trace.packet.add(
        timestamp=timestamp,
        trusted_packet_sequence_id=1,
        sequence_flags=2,
        track_event=perfetto.TrackEvent(**fields),
    )


def _number(packet, value):
    packet.track_event.debug_annotations.add(name_iid=1, int_value=value)


def _intern(packet, event, argument=None):
    packet.interned_data.event_names.add(iid=event[0], name=event[1])
    if argument is not None:
        packet.interned_data.debug_annotation_names.add(iid=argument[0], name=argument[1])


if __name__ == "__main__":
    GOLDEN.write_bytes(golden())
