"""An event-driven server for the OpenStack Images API."""

__version__ = "0.1.0"
