"""Rules: what happens by itself when an entry, a silence or a time calls for it.

`definitions` has the values, `conditions`, `schedules` and `placeholders` are pure, `checking` says what cannot be
saved. `engine` follows entries and times, `running` has actions carried out and tells how it went, `rules` is the use
case that dialects and the console call. Knows no dialect: React and TimeControl are faces of it.
"""
