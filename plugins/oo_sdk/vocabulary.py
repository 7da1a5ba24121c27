"""The common vocabulary: payload messages that mean the same whatever service they came from."""

from google.protobuf.timestamp_pb2 import Timestamp

from oo_sdk._schema.oo.vocabulary.v1.vocabulary_pb2 import (
    Alarm,
    Attendee,
    Calendar,
    CalendarEntry,
    Comment,
    Conference,
    Document,
    Due,
    HealthSample,
    Label,
    Person,
    Project,
    Record,
    Reminder,
    Section,
    Task,
    When,
    Workout,
)

__all__ = [
    "Alarm",
    "Attendee",
    "Calendar",
    "CalendarEntry",
    "Comment",
    "Conference",
    "Document",
    "Due",
    "HealthSample",
    "Label",
    "Person",
    "Project",
    "Record",
    "Reminder",
    "Section",
    "Task",
    "Timestamp",
    "When",
    "Workout",
]
