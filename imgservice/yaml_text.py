"""Reads the operator's YAML, with a limit on its depth.

PyYAML recurses for every level, and takes time in proportion to the square of the depth.
"""

import yaml
from yaml.composer import ComposerError

DEEPEST = 32
"""Lists and mappings within one another."""

Loader = type[yaml.BaseLoader | yaml.SafeLoader | yaml.CBaseLoader | yaml.CSafeLoader]


def line_of(error: yaml.MarkedYAMLError) -> int:
    """Return the line, from 1, of a mistake."""
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


def compose(text: str, loader: Loader) -> yaml.Node | None:
    """Return the tree of the text; `yaml.MarkedYAMLError` has the place of a mistake."""
    depth = 0
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                reason = f"nested more than {DEEPEST} deep"
                raise ComposerError(None, None, reason, event.start_mark)  # type: ignore[arg-type]
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return yaml.compose(text, loader)
