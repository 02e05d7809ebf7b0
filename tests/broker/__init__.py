"""Tests of `headwater.broker`: real sockets on the loopback interface, on both event loops."""
