"""What `twistd imgservice` runs: from its command line to a service."""

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.python import usage

from imgservice.concurrency.importing import without_collections

if TYPE_CHECKING:
    from imgservice.wiring.launch import ImageServer
    from imgservice.wiring.main_process import ProcessOptions


class Options(usage.Options):
    optParameters = [  # noqa: RUF012  Twisted reads it from the class
        ["config", "c", None, "YAML file with the configuration; without it every default holds."],
    ]
    longdesc = "A server for the OpenStack Images API."


def makeService(options: Options) -> "ImageServer":
    """Build the service, or end the process with one line that says why not."""
    with without_collections():
        from imgservice.wiring.launch import make_service

    path = Path(options["config"]) if options["config"] is not None else None
    return make_service(_moved(path, options.parent), _process_options(options))


def _moved(path: Path | None, twistd: Any) -> Path | None:
    """Change to the directory that twistd will use, so that relative paths mean the same files."""
    if not twistd or Path(twistd["rundir"]).resolve() == Path.cwd():
        return path
    path = path and path.absolute()
    twistd["rundir"] = str(Path(twistd["rundir"]).resolve())
    os.chdir(twistd["rundir"])
    return path


def _process_options(options: Options) -> "ProcessOptions":
    """Return the options of twistd itself."""
    from imgservice.wiring.main_process import ProcessOptions

    found: Any = options.parent or {}
    uid, gid = found.get("uid"), found.get("gid")
    return ProcessOptions(
        log_file=found.get("logfile"),
        is_daemon=bool(found) and not found.get("nodaemon"),
        uid=uid,
        gid=pwd.getpwuid(uid).pw_gid if uid is not None and gid is None else gid,
    )
