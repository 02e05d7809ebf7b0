"""That none of the hostile inputs H1 to H50 has been forgotten: each has a test named after it here, or elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
ELSEWHERE = {
    45: ("broker/test_websocket.py", "test_who_breaks_a_rule_is_told_and_closed"),
    50: ("hostile/test_sessions_machine.py", "class Sessions"),
}
"""H45, WebSocket frames and handshakes, has a whole module of its own; H50 is also `make fuzz`."""
NOT_APPLICABLE = {49}
"""H49 is a loop between the broker and a rule that publishes to its own filter: there are no rules here yet. Wills make
none (they go out once, and publishing one ends no connection), nor does an entry (only a dialect publishes to where its
subscribers listen, and nobody may publish there)."""


def test_every_hostile_input_has_a_test() -> None:
    text = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    named = {int(number) for number in re.findall(r"def test_h(\d\d)_", text)}
    missing = set(range(1, 51)) - named - set(ELSEWHERE) - NOT_APPLICABLE
    assert not missing
    for path, what in ELSEWHERE.values():
        assert what in (HERE.parent / path).read_text(), f"{path} has no {what}"
