"""The common vocabulary: payload messages that mean the same whatever service they came from."""

from google.protobuf.timestamp_pb2 import Timestamp

from oo_sdk._schema.oo.vocabulary.v1.vocabulary_pb2 import (
    CalendarEntry,
    Document,
    Due,
    HealthSample,
    Project,
    Record,
    Task,
    When,
    Workout,
)

__all__ = ["CalendarEntry", "Document", "Due", "HealthSample", "Project", "Record", "Task", "Timestamp", "When", "Workout"]
