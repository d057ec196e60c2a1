"""What a real Glance answered, as recorded, and what a started server answers to the same."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from compare import recording
from compare.__main__ import main, play_ours
from compare.differences import compare, judge, load_wanted
from compare.origin import origin
from compare.report import report
from compare.sequences import load
from compare.servers import INVENTED
from tests.real.service import Service

STARTING = threading.Lock()
"""What the first start makes for all is made once."""


@contextmanager
def forked(directory: Path, options: Mapping[str, Any]) -> Iterator[str]:
    service = Service(directory, options)
    try:
        with STARTING:
            service.make_tables()
            service.start()
        yield service.client.url
        assert "Traceback" not in service.log.read_text()
    finally:
        service.end()


def test_every_answer_is_glances_or_wanted() -> None:
    sequences = load()
    recorded = recording.read()
    assert [one.name for one in sequences if one.name not in recorded] == []
    with origin() as data:
        ours = play_ours(sequences, INVENTED, data, forked)
    compared = [compare(one, recorded[one.name], ours[one.name]) for one in sequences]
    found = [difference for one in compared for difference in one.differences]
    verdict = judge(found, load_wanted())
    text = "\n".join(report(verdict, len(sequences), 0, sum(one.compared for one in compared)))
    assert not verdict.unexplained and not verdict.stale, text


def test_the_command_starts_a_server_by_itself() -> None:
    done = CliRunner().invoke(main, ["check", "--only", "delete/*"])
    assert done.exit_code == 0, done.output
    assert " 0 unexplained" in done.output
