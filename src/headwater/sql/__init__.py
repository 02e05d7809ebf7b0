"""SQL that people write over their own tables: whether it may run, and what of which table it needs. Reads text and
rewrites trees; knows no store, no account and no engine."""
