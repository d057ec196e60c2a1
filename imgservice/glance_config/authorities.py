"""The files of certificate authorities that stores trust."""

from pathlib import Path

from imgservice.glance_config.conversion import Conversion
from imgservice.glance_config.ini import Assignment


def convert_authorities(
    conversion: Conversion, path: tuple[str, ...], one: Assignment, file: str
) -> None:
    """Set the `ca_file` of the store with this path; without the file, tell the operator."""
    if Path(file).is_file():
        conversion.put((*path, "ca_file"), file, one)
    else:
        reason = "there is no such file here, so it cannot be the ca_file of the store"
        conversion.keep("stores", [one], reason, matters=True)
