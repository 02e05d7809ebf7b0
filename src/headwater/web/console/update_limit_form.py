"""The form of a limit on updates: an account's, or a channel's own. Pure."""

from __future__ import annotations

import re

from headwater.model.update_policy import INTERVAL_MAX_S, INTERVAL_MIN_S, TooFast, UpdatePolicy
from headwater.web.console.forms import Form

AS_THE_ACCOUNT = "account"
"""The choice of a channel that has no limit of its own."""
CHOICES = {
    TooFast.NONE: ("No limit", "Every update is an entry, however fast they come."),
    TooFast.MERGE: (
        "Merge",
        "What comes sooner becomes part of the entry before: its fields are replaced or added to.",
    ),
    TooFast.QUEUE: ("Queue", "What comes sooner waits for its turn, and is answered when it is stored."),
    TooFast.REJECT: (
        "Reject",
        "What comes sooner is refused and counted on the channel’s page. Over HTTP the answer is 0.",
    ),
}
"""What each is called, and what it does."""
_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)


def parse_update_limit(form: Form, before: UpdatePolicy) -> tuple[UpdatePolicy | None, dict[str, str]]:
    """The limit, None for the account's, and what to say beside which input. Without a limit the seconds do not matter:
    those of before stay where nothing else can be read."""
    choice, text = form.text("limit"), form.text("interval_s")
    if choice == AS_THE_ACCOUNT:
        return None, {}
    action = next((action for action in TooFast if action.value == choice), None)
    if action is None:
        return before, {"limit": "Choose one of these."}
    interval_s = int(text) if _SECONDS.fullmatch(text) else 0
    is_right = INTERVAL_MIN_S <= interval_s <= INTERVAL_MAX_S
    policy = UpdatePolicy(action, interval_s if is_right else before.interval_s)
    if is_right or not policy.is_limit:
        return policy, {}
    return policy, {"interval_s": f"Enter whole seconds, from {INTERVAL_MIN_S} to {INTERVAL_MAX_S:,} (a day)."}


def describe(policy: UpdatePolicy) -> str:
    """A limit in a few words."""
    name = CHOICES[policy.action][0]
    return f"{name}, one update every {policy.interval_s:,} s" if policy.is_limit else name
