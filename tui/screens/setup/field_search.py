"""The fields of the form in the command palette, found by name or by what they do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from convnn.config.options import Option
from tui.screens.setup.draft import FIELDS

if TYPE_CHECKING:
    from tui.screens.setup.screen import SetupScreen

WEIGHT_OF_HELP = 0.5  # of a match in the help of an option, beside one in its name


class FieldProvider(Provider):
    """Finds the fields of the form that is open."""

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for option in FIELDS:
            score = max(matcher.match(option.key), matcher.match(option.name))
            if query.lower() in (option.name.lower(), option.field.lower()):
                score += 1
            score = score or WEIGHT_OF_HELP * matcher.match(option.help)
            if score > 0:
                yield Hit(score, matcher.highlight(option.key), self._go_to(option), option.key, option.help)

    def _go_to(self, option: Option) -> partial[None]:
        return partial(cast("SetupScreen", self.screen).go_to, option.key)


class EveryField(FieldProvider):
    """The same, and all fields as long as nothing is typed."""

    async def discover(self) -> Hits:
        for option in FIELDS:
            yield DiscoveryHit(option.key, self._go_to(option), option.key, option.help)
