"""Header names that are not UTF-8, which Kafka lets producers send.

aiokafka decodes names strictly: one such record in a fetch raises ``UnicodeDecodeError`` from every poll, for ever, and
even the records in front of it are not delivered. So one producer could stop a partition. Here such a fetch is read
again with aiokafka's own Python reader and with names decoded by ``surrogateescape``, which ``schemas.records`` turns
back into the same bytes. Records of other fetches take the usual, compiled way at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

from streams.kafka.common import Isolation, KafkaFailure, Partition, Record, topic_partition

CHECK_CRCS: Final = True
V2 = 2  # the format of record batches that has headers


class _KeptRecords:
    """What a fetch returned, with its bytes, so that it can be read again."""

    def __init__(self, data: bytes) -> None:
        self.data, self._records = data, MemoryRecords(data)
        self.has_next, self.next_batch = self._records.has_next, self._records.next_batch
        self.size_in_bytes = self._records.size_in_bytes


class _LenientBuffer(bytearray):
    """Bytes that decode as text whatever they are."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return _LenientBuffer(found) if isinstance(key, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> str:
        return super().decode(encoding, errors)


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # its base class is untyped
    def __iter__(self) -> Any:
        super().__iter__()  # may decompress
        self._buffer: Any = _LenientBuffer(self._buffer)
        return self


class _LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]  # its base class is untyped
    def next_batch(self) -> Any:
        data = self._next_slice
        batch = super().next_batch()
        return _LenientBatch(data) if data[self.MAGIC_OFFSET] >= V2 else batch


class _LenientPartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # its base class is untyped
    """The records of one fetch of one partition, one after the other."""

    def __init__(self, tp: Any, records: _KeptRecords, aborted_transactions: Any, *rest: Any) -> None:
        self._kept, self._aborted = records, list(aborted_transactions or [])
        super().__init__(tp, records, aborted_transactions, *rest)

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except UnicodeDecodeError:
            # Again from the start of the fetch, because what is known of transactions belongs to that.
            delivered = self.next_fetch_offset
            self._records: Any = _LenientRecords(self._kept.data)
            self._aborted_transactions = sorted(self._aborted, key=lambda producer_and_offset: producer_and_offset[1])
            self._aborted_producers: set[int] = set()
            self._records_iterator = self._unpack_records()
            while (record := super().__next__()).offset < delivered:
                pass
            return record


class _OurRecords(_LenientPartitionRecords):
    """The same as our own records."""

    def _consumer_record(self, tp: Any, r: Any) -> Record:
        return Record(tp.topic, tp.partition, r.offset, r.key, r.value, tuple(r.headers), r.timestamp, r.timestamp_type)


def read_batches(
    place: Partition, data: bytes, aborted: Sequence[tuple[int, int]], offset: int, isolation: Isolation
) -> tuple[list[Record], int]:
    """The records from *offset* on in what one fetch gave of *place*, and the offset to go on from.

    What is behind something damaged is left for the next fetch. Raises KafkaFailure if nothing is in front of it.
    """
    level = READ_COMMITTED if isolation is Isolation.COMMITTED else READ_UNCOMMITTED
    reading = _OurRecords(topic_partition(place), _KeptRecords(data), aborted, offset, None, None, CHECK_CRCS, level)
    found: list[Record] = []
    try:
        found.extend(reading)
    except Exception as error:  # decoders raise what they like, and one partition's bytes are no defect of all
        if not found:
            raise KafkaFailure(f"read {place} from offset {offset}: {error!r}") from error
    return found, reading.next_fetch_offset


def install() -> None:
    """Make every consumer of this process read so."""
    fetcher.MemoryRecords = _KeptRecords
    fetcher.PartitionRecords = _LenientPartitionRecords
