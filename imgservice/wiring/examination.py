"""Examines a configuration that was read, and prepares what it names."""

from pathlib import Path

from imgservice.config.sections import Config
from imgservice.wiring.load import placed
from imgservice.wiring.preflight import preflight
from imgservice.wiring.trial import try_build


def examine(path: Path | None, config: Config) -> None:
    """Check that the service can be built; `ConfigError` tells what is wrong, and its place."""
    with placed(path):
        try_build(config)


def prepare(path: Path | None, config: Config, is_examined: bool = False) -> None:
    """Check that, if it is not known, and prepare the database and the stores."""
    with placed(path):
        if not is_examined:
            try_build(config)
        preflight(config)
