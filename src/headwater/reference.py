"""The reference of all settings: for `headwater serve --help`, and as the page `docs/settings.md`.

`python -m headwater.reference` prints the page. Everything in it comes from the settings tree.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

from headwater.setting_kinds import render_value
from headwater.settings import (
    ADMIN_VARIABLES,
    CONFIG_VARIABLE,
    Definition,
    definitions,
    section_titles,
)

_PAGE_HEAD = f"""# Settings

<!-- Made by `make docs` from src/headwater/settings.py: change it there. -->

Every setting can be given in three ways. What stands further up in this list wins:

1. an option of `headwater serve`, for the most used ones: `--mqtt 0.0.0.0:1883` (again for a second address);
2. an environment variable: `HEADWATER_MQTT_MAX_CONNECTIONS=500` (lists with commas between the items);
3. a key in a TOML file named by `--config FILE` or `{CONFIG_VARIABLE}`:

```toml
data = "/var/lib/headwater"

[listen]
mqtt = ["0.0.0.0:1883", "[::]:1883"]
https = "off"

[mqtt]
max_connections = 500
```

A key or a variable that does not exist is an error that names the nearest one, so a typing mistake is found at
the start. `headwater check` reads the settings and says what it thinks of them.

On the first start, the administrator is made from `{ADMIN_VARIABLES[0]}`, `{ADMIN_VARIABLES[1]}` and
`{ADMIN_VARIABLES[2]}`; what is not set is generated and printed once.
"""


def render_page() -> str:
    """The whole page in Markdown."""
    return _PAGE_HEAD + "".join(
        f"\n## {title}\n\n| setting | default | allowed | meaning |\n|---|---|---|---|\n"
        + "".join(_page_row(definition) for definition in section)
        for title, section in _sections()
    )


def render_help() -> str:
    """The same as plain text of at most 100 columns, for the end of `headwater serve --help`."""
    lines = [
        "All settings, as key of the TOML file = default. The environment variable of a.b is HEADWATER_A_B.",
    ]
    for title, section in _sections():
        lines += ["", f"{title}:"]
        for definition in section:
            flag = f"  ({definition.flag})" if definition.flag else ""
            lines.append(f"  {definition.key} = {render_value(definition.default)}{flag}")
            lines += _wrap(f"{definition.doc} Allowed: {definition.kind.allowed}.", indent=6, width=100)
    return "\n".join(lines)


def _sections() -> Iterator[tuple[str, list[Definition]]]:
    every = definitions()
    for section, title in section_titles().items():
        yield title, [definition for definition in every if definition.section == section]


def _page_row(definition: Definition) -> str:
    names = [f"`{definition.key}`", f"`{definition.variable}`"]
    if definition.flag:
        names.append(f"`{definition.flag}`")
    allowed = definition.kind.allowed.replace("|", "\\|")
    return f"| {'<br>'.join(names)} | `{render_value(definition.default)}` | {allowed} | {definition.doc} |\n"


def _wrap(text: str, *, indent: int, width: int) -> list[str]:
    return textwrap.wrap(text.replace("`", ""), width, initial_indent=" " * indent, subsequent_indent=" " * indent)


if __name__ == "__main__":
    sys.stdout.write(render_page())
