"""npm's `mqtt` (MQTT.js) as an `MqttClient`: a Node process with any number of clients in it."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import itertools
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mqtt_client import TIMEOUT_S, Answer, Connected, MqttClient, Options, Received
from server import require_program

_HERE = Path(__file__).parent / "mqtt_js"
_SCHEMES = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}
_INSTALL_TIMEOUT_S = 100


def install(folder: Path = _HERE) -> Path:
    """The folder of the modules that a folder's package-lock.json names; installed once for each machine and lock
    file."""
    lock_file = folder / "package-lock.json"
    digest = hashlib.sha256(lock_file.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater-tests"
    modules = cache / f"{folder.name.replace('_', '-')}-{digest}" / "node_modules"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "mqtt-js.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test workers may come at once
        if not modules.is_dir():
            unfinished = Path(tempfile.mkdtemp(dir=cache))
            for name in ("package.json", "package-lock.json"):
                shutil.copy(folder / name, unfinished)
            command = [require_program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=unfinished, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S)
            assert done.returncode == 0, done.stderr
            unfinished.rename(modules.parent)
    return modules


class JavaScript:
    """The Node process."""

    def __init__(self) -> None:
        node = require_program("node")
        self._process = subprocess.Popen(
            [node, str(_HERE / "driver.cjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"NODE_PATH": str(install())},
        )
        self._numbers = itertools.count(1)
        self._clients: dict[int, MqttJsClient] = {}
        self._results: dict[int, queue.Queue[Any]] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def add(self, client: MqttJsClient) -> int:
        number = next(self._numbers)
        self._clients[number] = client
        return number

    def call(self, verb: str, client: int, **arguments: Any) -> Any:
        """Have something done; what came of it."""
        number = next(self._numbers)
        result: queue.Queue[Any] = queue.Queue()
        self._results[number] = result
        assert self._process.stdin is not None
        request = {"id": number, "verb": verb, "client": client, **arguments}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return result.get(timeout=TIMEOUT_S)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=TIMEOUT_S)
        self._reader.join(timeout=TIMEOUT_S)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "id" in said:
                self._results.pop(said["id"]).put(said["result"])
            else:
                self._clients[said["client"]].heard(said)


class MqttJsClient(MqttClient):
    def __init__(self, options: Options, javascript: JavaScript) -> None:
        super().__init__(options)
        self._javascript = javascript
        self._number = javascript.add(self)
        self._is_v5 = options.route.level == 5

    def connect(self) -> Connected:
        options, route = self.options, self.options.route
        path = "/mqtt" if route.transport in ("ws", "wss") else ""
        url = f"{_SCHEMES[route.transport]}://localhost:{route.port(options.server)}{path}"
        given: dict[str, Any] = {
            "protocolVersion": route.level,
            "protocolId": "MQIsdp" if route.level == 3 else "MQTT",
            "clientId": options.who.client_id,
            "clean": options.clean,
            "keepalive": options.keep_alive_s,
            "resubscribe": False,
        }
        if options.who.username:
            given |= {"username": options.who.username, "password": options.who.password}
        if self._is_v5:
            given["properties"] = options.properties
        if (will := options.will) is not None:
            given["will"] = {"topic": will.topic, "payload": will.payload, "qos": will.qos, "retain": will.retain}
            if will.delay_s:
                given["will"]["properties"] = {"willDelayInterval": will.delay_s}
        ca = str(options.server.ca_path) if route.transport in ("tls", "wss") else None
        answer = self._call("connect", url=url, ca=ca, options=given)
        return Connected(answer["code"], answer["sessionPresent"], answer["properties"])

    def subscribe(
        self,
        topic_filter: str,
        qos: int = 0,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        subscription_id: int = 0,
    ) -> int:
        options: dict[str, Any] = {"qos": qos}
        if self._is_v5:
            options |= {"nl": no_local, "rap": retain_as_published, "rh": retain_handling}
        properties = {"subscriptionIdentifier": subscription_id} if subscription_id else None
        code: int = self._call("subscribe", filter=topic_filter, options=options, properties=properties)
        return code

    def unsubscribe(self, topic_filter: str) -> int:
        code: int = self._call("unsubscribe", filter=topic_filter)
        return code

    def publish_all(
        self, topic: str, payloads: Iterable[str], qos: int = 0, retain: bool = False, **properties: Any
    ) -> list[Answer]:
        options: dict[str, Any] = {"qos": qos, "retain": retain}
        if properties:
            if "correlationData" in properties:
                properties["correlationData"] = properties["correlationData"].decode()
            options["properties"] = properties
        answers = self._call("publish", topic=topic, payloads=list(payloads), options=options)
        return [Answer(**answer) for answer in answers]

    def disconnect(self, code: int = 0) -> None:
        self._call("disconnect", code=code)
        self.wait_end()

    def vanish(self) -> None:
        self._call("vanish")
        self.wait_end()

    def close(self) -> None:
        self._call("close")

    def heard(self, said: dict[str, Any]) -> None:
        """Something has happened; called by the thread that reads."""
        if said["event"] == "end":
            self.ends.put(said["code"])
            return
        properties = said["properties"]
        if "correlationData" in properties:
            properties["correlationData"] = properties["correlationData"].encode()
        if "userProperties" in properties:
            properties["userProperties"] = [(name, value) for name, value in properties["userProperties"]]
        payload = base64.b64decode(said["payload"])
        self.messages.put(Received(said["topic"], payload, said["qos"], said["retain"], properties))

    def _call(self, verb: str, **arguments: Any) -> Any:
        return self._javascript.call(verb, self._number, **arguments)
