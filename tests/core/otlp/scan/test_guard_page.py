"""No kernel reads outside the messages and their padding. A failure here is a crash of the process."""

import random

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stream.core.otlp import Messages, Reading
from stream.core.otlp.scan import jobs, traces
from tests.core.otlp import captures
from tests.core.otlp.scan.equality import assert_equal
from tests.core.otlp.scan.guarded import GuardedMemory
from tests.core.otlp.scan.wire_messages import Writer, damaged

READING = Reading(attributes=("cohort", "http.route", "k", "service.name"))


def hostile_messages(seed, count):
    chance = random.Random(seed)
    writer = Writer(chance)
    whole = [writer.message(ExportTraceServiceRequest.DESCRIPTOR) for _ in range(20)]
    whole += [value for name in captures.CAPTURES for value in captures.values(name) if len(value) < 3000]
    for _ in range(count):
        value = damaged(chance, chance.choice(whole), chance.choice(whole))
        yield value[: chance.randrange(len(value) + 1)] if chance.random() < 0.5 else value


@pytest.mark.parametrize("place", ["joined_at_the_end", "joined_at_the_begin"])
def test_nothing_outside_a_message_is_read(monkeypatch, place):
    memory = GuardedMemory(1 << 20)
    for value in hostile_messages(seed=11, count=1500):
        messages = Messages.of([value])
        expected = traces.decode(messages, READING)
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "joined", getattr(memory, place))
            assert_equal(traces.decode(messages, READING), expected)
