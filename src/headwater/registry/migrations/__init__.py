"""Alembic's folder, run by `headwater.registry.opening.migrate`: one file in `versions/` for each change of
the tables."""
