"""The durable store: DuckDB, in a directory of its own. Knows columns and series numbers; no protocol, no access.

Read in this order: `schema` (what is on disk; docs/storage.md tells the story), `layout` (where the points of a type
are), `files` (opening it safely), `incoming` (columns to Arrow, without copying), `reading` and `windowing` (the SQL of
queries), `runs` (files of sorted points), `tables` (what writers and readers share), `answers` (short answers, read
quickly), `recent` (what arrived last, in memory), `recording` (long answers, in portions), `upkeep`
(sorting, merging, carrying out deletions), `store` (the store itself).
"""

from __future__ import annotations

from headwater.store.duck.store import DuckStore, open_duck_store

__all__ = ["DuckStore", "open_duck_store"]
