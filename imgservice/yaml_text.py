"""YAML of the operator, read without going deeper than anything sensible does.

The libraries call themselves for every level, and take the square of its depth for the text.
"""

from typing import Any

import yaml

DEEPEST = 32
"""Lists and mappings within one another."""


def compose(text: str, loader: Any) -> yaml.Node | None:
    """Return the tree of the text; `yaml.MarkedYAMLError` tells the place of a mistake."""
    depth = 0
    event: Any
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                reason = f"nested more than {DEEPEST} deep"
                place: Any = event.start_mark
                raise yaml.composer.ComposerError(None, None, reason, place)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return yaml.compose(text, loader)
