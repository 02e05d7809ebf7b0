"""The first format of the store, for tests that bring it up."""

from __future__ import annotations

FORMAT_1 = (
    "CREATE TABLE meta (application VARCHAR NOT NULL, format_version INTEGER NOT NULL)",
    "INSERT INTO meta VALUES ('headwater', 1)",
    "CREATE TABLE series (id BIGINT NOT NULL, bucket_id BIGINT NOT NULL, measurement VARCHAR NOT NULL, "
    "tags MAP(VARCHAR, VARCHAR) NOT NULL, field VARCHAR NOT NULL, type UTINYINT NOT NULL)",
    *(
        f"CREATE TABLE hot_{name} (series_id BIGINT NOT NULL, at_ns BIGINT NOT NULL, value {sql_type} NOT NULL)"
        for name, sql_type in [
            ("float", "DOUBLE"),
            ("integer", "BIGINT"),
            ("unsigned", "UBIGINT"),
            ("boolean", "BOOLEAN"),
            ("string", "VARCHAR"),
        ]
    ),
    "INSERT INTO series VALUES (32, 7, 'm', MAP {'a': 'b'}, 'f', 1), (33, 7, 'm', MAP {'a': 'b'}, 'g', 5)",
    "INSERT INTO hot_float VALUES (32, 1000, 1.5), (32, 2000, 2.5), (32, 1000, 3.5)",
    "INSERT INTO hot_string VALUES (33, 1000, 'on')",
)
"""A frozen copy of what the first format was."""
