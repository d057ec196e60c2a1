"""The `openstack` command."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

from tests.real.commands import run_command

OPENSTACK = Path(sys.executable).with_name("openstack")


def openstack(environment: Mapping[str, str], *arguments: str | Path) -> CompletedProcess[str]:
    """Run it with nothing but this environment to tell it where and as whom."""
    return run_command(OPENSTACK, *arguments, env=with_nothing_but(environment))


def with_nothing_but(environment: Mapping[str, str]) -> Mapping[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    return {**own, **environment}


def printed(environment: Mapping[str, str], *arguments: str | Path) -> str:
    """Return what it prints, if all went well."""
    done = openstack(environment, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
