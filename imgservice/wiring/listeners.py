"""From the configuration to what listens to events."""

from collections.abc import Sequence

from imgservice.config.sections import Config
from imgservice.service.events import Listener
from imgservice.telemetry.access_log import AccessLog
from imgservice.telemetry.logs import Output


def make_listeners(config: Config, output: Output) -> Sequence[Listener]:
    """Make all listeners that are turned on, in the order in which they are called."""
    logging = config.logging
    listeners: list[Listener] = []
    if logging.access:
        with_probes = logging.level == "debug"
        listeners.append(AccessLog(output, logging.format == "json", with_probes))
    return listeners
