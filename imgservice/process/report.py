"""What the supervisor reports of the service, for the state file."""

from collections.abc import Mapping

from imgservice.process.phases import Life
from imgservice.process.setup import Setup
from imgservice.process.worker_pool import WorkerPool


def describe(
    life: Life, since: float, setup: Setup, pool: WorkerPool, trouble: str | None
) -> Mapping[str, object]:
    """Return what there is to say of the service; `trouble` is our own."""
    return {
        "phase": life.phase,
        "phase_since": round(life.since, 3),
        "phase_began": round(life.began, 3),
        "since": round(since, 3),
        "wanted": pool.slots,
        "generation": setup.generation,
        "listen": [one.description for one in setup.addresses],
        "workers": pool.report(),
        "trouble": trouble or pool.trouble,
        "troubles": [
            {
                "what": one.what,
                "why": one.why,
                "since": round(one.since, 3),
                "essential": one.is_essential,
            }
            for one in pool.troubles.present
        ],
    }
