"""Headwater: a self-hosted home for IoT telemetry."""

__version__ = "0.1.0"
