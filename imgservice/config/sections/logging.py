"""The log."""

from typing import Literal

import attrs

from imgservice.domain.options import option


@attrs.frozen(kw_only=True)
class LoggingOptions:
    format: Literal["text", "json"] = option(
        "text", "One line of text, or one JSON object, a line."
    )
    level: Literal["debug", "info", "warn", "error"] = option("info", "Least level that is logged.")
    access: bool = option(True, "Whether every request is logged.")
    file: str | None = option(
        None, "Append to this file, which may be moved away; null: standard output."
    )
