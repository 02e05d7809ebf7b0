"""The registry: who may do what. Accounts, keys, tokens, channels, MQTT devices with grants, account devices; never
telemetry.

`open_registry` (opening.py) gives a `Registry` (registry.py, account_devices.py), whose methods are one transaction
each and block on disk; `RegistryWorker` (worker.py) runs them on one thread. `entities.py` holds the values that go in
and out.
"""
