"""Data in and out: records of a bucket as files that other programs read, and back.

`columns` says what the columns of a table are called, `block` is what is loaded at a time; `writing` and `reading` are
the formats, pure but for the stream that they write or read; `source` and `loading` are the server's part, `terminal`
that of the commands. The formats are described in docs/exchange.md.
"""
