"""Which phases of the service follow each other."""

import pytest

from imgservice.process.phases import Life, Phase


def test_out_of_rotation_and_back() -> None:
    life = Life()
    assert life.is_changing
    for phase in (Phase.SERVING, Phase.DRAINING, Phase.SERVING, Phase.DRAINING, Phase.DRAINED):
        life.enter(phase)
        assert life.phase is phase
        assert not life.is_changing
    assert life.is_out_of_rotation
    life.enter(Phase.SERVING)
    assert not life.is_out_of_rotation


@pytest.mark.parametrize("phase", Phase)
def test_nothing_follows_the_end(phase: Phase) -> None:
    life = Life()
    life.enter(Phase.STOPPING)
    with pytest.raises(ValueError, match=f"stopping cannot be {phase} next"):
        life.enter(phase)


def test_a_service_drains_when_it_serves_only() -> None:
    life = Life()
    with pytest.raises(ValueError, match="starting cannot be draining next"):
        life.enter(Phase.DRAINING)
