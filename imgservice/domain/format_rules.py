"""Which formats of data the operator accepts."""

from collections.abc import Sequence

import attrs


@attrs.frozen
class FormatRules:
    """The formats that the operator accepts."""

    require_match: bool = True
    vmdk_types: Sequence[str] = ("streamOptimized", "monolithicSparse")
    gpt_safety_checks_nonfatal: Sequence[str] = ()
    raw_must_be_raw: bool = False
    """Whether data that is declared raw may not be in another format."""
    accept_others: bool = False
    """Whether data in another format than the declared one is accepted, as long as it is safe."""
