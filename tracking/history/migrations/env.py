"""Alembic's entry: runs the migrations on the connection that tracking/history/database.py hands in."""

from alembic import context

from tracking.history.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # SQLite's too: its transaction is begun by us
)
context.run_migrations()
