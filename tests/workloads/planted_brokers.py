"""Mistakes in the sources RabbitMQ and Kafka, and the test that finds each.

They are tried like those of `tests.simulator.mutants`; nothing of incumbent is imported here.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED_BROKERS"]

RABBITMQ = "incumbent.workloads.sources.rabbitmq"
KAFKA = "incumbent.workloads.sources.kafka"
LINE = "incumbent.workloads.kafka"
PROGRESS = "incumbent.fencing.progress"

_RABBITMQ = "tests/workloads/test_consumer_rabbitmq.py::test_"
_KAFKA = "tests/workloads/test_consumer_kafka.py::test_"

PLANTED_BROKERS: tuple[Mutant, ...] = (
    # -- RabbitMQ
    planted(
        "queue of RabbitMQ: it is not consumed exclusively",
        RABBITMQ,
        "await queue.consume(self._take, exclusive=self._exclusive)",
        "await queue.consume(self._take)",
        RABBITMQ,
        "            await self._refuse_shared()\n",
        "            pass\n",
        test=f"{_RABBITMQ}a_predecessor_that_was_cut_off_is_waited_for",
    ),
    planted(
        "queue of RabbitMQ: one that two may consume is taken",
        RABBITMQ,
        "            await self._refuse_shared()\n",
        "            pass\n",
        test=f"{_RABBITMQ}a_quorum_queue_is_refused_without_a_single_active_consumer",
    ),
    planted(
        "queue of RabbitMQ: a stream is taken",
        RABBITMQ,
        '                if arguments.get(_KIND) == "stream":\n',
        "                if False:\n",
        test=f"{_RABBITMQ}a_stream_is_refused[&exclusive=no]",
    ),
    planted(
        "queue of RabbitMQ: as much is taken as before after it took too long",
        RABBITMQ,
        "        if _LATE in self._broken:\n",
        "        if False:\n",
        test=f"{_RABBITMQ}what_waits_in_hand_for_too_long_is_not_dropped",
    ),
    planted(
        "queue of RabbitMQ: that it was deleted is not noticed",
        RABBITMQ,
        "on_consumer_cancel_callbacks.add(self._cancelled)",
        "on_consumer_cancel_callbacks.discard(self._cancelled)",
        test=f"{_RABBITMQ}a_queue_that_is_deleted_is_said_and_waited_for[sync]",
    ),
    planted(
        "queue of RabbitMQ: one that is declared anew ends the work",
        RABBITMQ,
        "            self._consumed = True\n",
        "",
        test=f"{_RABBITMQ}a_queue_that_is_deleted_is_said_and_waited_for[sync]",
    ),
    planted(
        "queue of RabbitMQ: headers that the client only reads hold the queue up",
        RABBITMQ,
        "{**_writable(message.headers), ",
        "{**message.headers, ",
        test=f"{_RABBITMQ}one_with_headers_that_the_client_only_reads_is_buried",
    ),
    planted(
        "queue of RabbitMQ: a message without an id is handled",
        RABBITMQ,
        "        if not identity:\n",
        "        if False:\n",
        test=f"{_RABBITMQ}what_will_not_pass_ends_the_work_and_says_what_to_change",
    ),
    planted(
        "queue of RabbitMQ: what was in hand of a broken channel is handled with the new one",
        RABBITMQ,
        "        self._arrived.clear()\n",
        "",
        RABBITMQ,
        "            raise SourceUnavailable(self._broken)\n",
        "            if not self._arrived:\n"
        "                raise SourceUnavailable(self._broken)\n",
        test=f"{_RABBITMQ}what_arrived_on_a_connection_that_ended_is_not_returned",
    ),
    planted(
        "progress: ids that come again and again are forgotten first",
        PROGRESS,
        '        await db.run(_AGAIN, {**values, "number": number})\n',
        "        pass\n",
        test="tests/fencing/test_progress.py"
        "::test_what_comes_again_and_again_is_known_all_the_while[sqlite3]",
    ),
    # -- Kafka
    planted(
        "topic: records that are gone are leapt over",
        LINE,
        '"auto.offset.reset": "error"',
        '"auto.offset.reset": "earliest"',
        test=f"{_KAFKA}what_is_taken_while_it_is_read_is_said",
    ),
    planted(
        "topic: what retention took is passed over at the opening",
        KAFKA,
        '        if not self._skips:\n            raise ConfigError(\n                f"{lost}.',
        '        if False:\n            raise ConfigError(\n                f"{lost}.',
        test=f"{_KAFKA}what_retention_took_is_said_and_skipped_only_if_asked",
    ),
    planted(
        "topic: what was aborted is read",
        LINE,
        '"read_committed"',
        '"read_uncommitted"',
        test=f"{_KAFKA}what_is_committed_is_read_and_done_in_order[sync-1]",
    ),
    planted(
        "topic: the position is that of one partition",
        KAFKA,
        "in self._next.items()\n",
        "in list(self._next.items())[:1]\n",
        test=f"{_KAFKA}partitions_that_are_added_are_read_from_their_beginning",
    ),
    planted(
        "topic: a new one of the same name is taken for the old one",
        KAFKA,
        "        if known and known != self._is.identity:\n",
        "        if False:\n",
        test=f"{_KAFKA}a_topic_that_was_made_anew_is_another_one",
    ),
    planted(
        "topic: that the log has grown again is not seen",
        KAFKA,
        "                self._unproven.add(number)\n",
        "                pass\n",
        test=f"{_KAFKA}a_log_that_has_lost_its_end_is_refused_even_when_it_has_grown_again",
    ),
    planted(
        "topic: added partitions are not looked for",
        KAFKA,
        "        if await self._connected().topic(self._topic) != self._is:\n",
        "        if False:\n",
        test=f"{_KAFKA}partitions_that_are_added_are_read_from_their_beginning",
    ),
    planted(
        "topic: a dead letter that is too large is not tried with less of its reason",
        KAFKA,
        "                if size <= _SHORT:\n",
        "                if True:\n",
        test=f"{_KAFKA}one_that_is_nearly_too_large_is_buried_with_as_much_of_the_reason_as_goes"
        "[600]",
    ),
    planted(
        "topic: the client is left to say how large a dead letter may be",
        LINE,
        '    "message.max.bytes": 1_000_000_000,\n',
        "",
        test=f"{_KAFKA}one_that_is_nearly_too_large_is_buried_with_as_much_of_the_reason_as_goes"
        "[20000]",
    ),
    planted(
        "topic: silence is taken for peace when all brokers are down",
        LINE,
        "            if self._trouble is not None:\n",
        "            if False:\n",
        test=f"{_KAFKA}silence_is_trouble_when_no_broker_is_there",
    ),
)
