"""Backups: everything that a data directory keeps, as it was at one moment, in one file; and whether data is sound.

Read in this order: `manifest` (what an archive says about itself), `archive` (its bytes, written and read), `sources`
(which files, and how they are had beside a running server), `taking` (a backup), `restoring`, `inspection` (what
`headwater check` says about the data).
"""
