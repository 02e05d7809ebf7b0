"""Tests of `headwater.mqtt`, module by module."""
