"""MQTT without I/O: packets, frames, the server's side of a session, topics. Knows no socket, clock or thread.

Clause marks such as `[MQTT-3.3.1-4]` are those of OASIS "MQTT Version 3.1.1" (29 October 2014).
"""
