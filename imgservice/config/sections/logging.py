"""The log."""

from typing import Literal

import attrs

from imgservice.domain.options import option


@attrs.frozen(kw_only=True)
class LoggingOptions:
    format: Literal["text", "json"] = option(
        "text", "text: lines for people. json: one JSON object per line."
    )
    level: Literal["debug", "info", "warn", "error"] = option(
        "info", "Lowest level that is logged."
    )
    access: bool = option(True, "Log every request.")
    file: str | None = option(
        None, "File to append to; it may be rotated by renaming. null: standard output."
    )
