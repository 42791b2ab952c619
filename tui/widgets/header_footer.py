"""The first and the last line of every screen: where one is, and which keys work there."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.widget import Widget

from convnn.text import escaped, fit

MOST_KEYS = 6
ALWAYS_SHOWN = ("help", "leave")  # actions at the end of every footer
GAP = "   "  # between two keys


class Header(Widget):
    """The name of the screen, what it shows, and at the right its status."""

    DEFAULT_CSS = "Header { height: 1; dock: top; background: $panel; padding: 0 1; }"

    def __init__(self, title: str = "", subtitle: str = "") -> None:
        super().__init__()
        self.title, self.subtitle, self.status, self.status_style = title, subtitle, "", "dim"

    def update(self, title: str, subtitle: str = "", status: str = "", style: str = "dim") -> None:
        """Replace the title, the words after it, and the status at the right with its style."""
        texts = (title, subtitle, status, style)
        if texts != (self.title, self.subtitle, self.status, self.status_style):
            self.title, self.subtitle, self.status, self.status_style = texts
            self.refresh()

    def render(self) -> Text:
        width, status_width = self.content_size.width, cell_len(self.status)
        title = fit(escaped(self.title), max(1, width - status_width - 9))  # the status is never cut
        text = Text.assemble(("convnn", "bold"), ("  ", ""), (title, "bold"), no_wrap=True)
        room = width - text.cell_len - status_width - 4
        if self.subtitle and room > 8:
            text.append("  " + fit(escaped(self.subtitle), room), "dim")
        gap = width - text.cell_len - status_width
        return text.append(" " * max(1, gap)).append(self.status, self.status_style)


class Footer(Widget):
    """The keys that do something here: at most six, those of the focused pane first.

    A screen whose state leaves a key without a use names its id in `unneeded_keys`: the key still says why.
    """

    DEFAULT_CSS = "Footer { height: 1; dock: bottom; background: $panel; padding: 0 1; }"

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def keys(self) -> list[tuple[str, str, str]]:
        """Return (action, key, word) of each key in the footer."""
        keys: dict[str, tuple[str, str, str]] = {}
        unneeded = getattr(self.screen, "unneeded_keys", ())
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.show and active.enabled and binding.action not in keys and binding.id not in unneeded:
                keys[binding.action] = (binding.action, self.app.get_key_display(binding), binding.description)
        last = [key for action, key in keys.items() if action in ALWAYS_SHOWN]
        first = [key for action, key in keys.items() if action not in ALWAYS_SHOWN]
        return first[: MOST_KEYS - len(last)] + last

    def _fitting_keys(self) -> list[tuple[str, str, str]]:
        """Return the keys that there is room for; those at the end of every footer stay."""
        keys = self.keys()
        while len(keys) > len(ALWAYS_SHOWN) and _width(keys) > self.content_size.width:
            last = max(index for index, (action, _, _) in enumerate(keys) if action not in ALWAYS_SHOWN)
            del keys[last]
        return keys

    def render(self) -> Text:
        color = self.app.theme_variables["primary"]
        text = Text(no_wrap=True, overflow="ellipsis")
        for action, key, word in self._fitting_keys():
            if text:
                text.append(GAP)
            text.append(key, f"bold {color}").append(f" {word}")
            text.apply_meta({"key": action}, -(len(key) + len(word) + 1))
        return text

    async def on_click(self, event: events.Click) -> None:
        action = event.style.meta.get("key")
        for active in self.screen.active_bindings.values():
            if action is not None and active.binding.action == action:
                await self.app.run_action(action, active.node)
                return


def _width(keys: Sequence[tuple[str, str, str]]) -> int:
    return sum(cell_len(f"{key} {word}") for _, key, word in keys) + len(GAP) * (len(keys) - 1)
