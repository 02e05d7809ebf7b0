"""Every normative statement of MQTT 3.1.1 and 5.0 that binds a server, shown on a real socket against a real process.

`statements_311.py` and `statements_50.py` list the statements, a test is named after the one that it shows, and
`page.py` makes `docs/mqtt-conformance.md` of both.
"""
