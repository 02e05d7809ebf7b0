"""What Alembic runs around the migrations: on the connection it is given, in that connection's transaction.

It leaves logging as it is, and reads no ini file.
"""

from __future__ import annotations

from alembic import context

from headwater.registry.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite cannot alter most of a table in place
)
context.run_migrations()
