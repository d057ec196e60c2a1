"""What a real Glance answered, as recorded, and what a started server answers to the same."""

from compare import recording
from compare.__main__ import play_ours
from compare.differences import compare, judge, load_wanted
from compare.origin import origin
from compare.report import report
from compare.sequences import load
from compare.servers import INVENTED


def test_every_answer_is_glances_or_wanted() -> None:
    sequences = load()
    recorded = recording.read()
    assert [one.name for one in sequences if one.name not in recorded] == []
    with origin() as data:
        ours = play_ours(sequences, INVENTED, data)
    compared = [compare(one, recorded[one.name], ours[one.name]) for one in sequences]
    found = [difference for one in compared for difference in one.differences]
    verdict = judge(found, load_wanted())
    text = "\n".join(report(verdict, len(sequences), 0, sum(one.compared for one in compared)))
    assert not verdict.unexplained and not verdict.stale, text
