"""The table of the history. migrations/ makes it; a test compares the two."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, Table, Text, UniqueConstraint

VERSION_TABLE = "aisle_schema"
"""Alembic's. PostgreSQL may hold MLflow's tables, too, whose table is alembic_version."""
metadata = MetaData()

# Text alone, also of times and JSON: what is hashed is what is stored, on every database the same bytes.
EVENTS = Table(
    "aisle_events",
    metadata,
    Column("model", Text, primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("operation", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("alias", Text),
    Column("version", Text),
    Column("previous_version", Text),
    Column("by", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    UniqueConstraint("operation", "kind", name="aisle_events_operation_kind"),
)
