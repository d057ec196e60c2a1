"""The process that tries a configuration: a child of the fork server."""

import os
import pickle
import sys
import threading
import traceback
from collections.abc import Sequence

from setproctitle import setproctitle

from imgservice.config.errors import ConfigError
from imgservice.process.control import read_hidden_file
from imgservice.wiring.examination import examine, prepare
from imgservice.wiring.forked_trials import ANSWER, QUESTION, Answer, Question


def main() -> int:
    """Answer the question of the parent."""
    setproctitle("imgservice-trial")
    # It can only come from our parent.
    question: Question = pickle.loads(read_hidden_file(QUESTION))  # noqa: S301
    with os.fdopen(ANSWER, "wb") as pipe:
        pipe.write(pickle.dumps(_answer(question)))
    return 0


def _answer(question: Question) -> Answer:
    try:
        imported = [] if question.is_examined else _examine(question)
        if question.prepares:
            prepare(question.path, question.config, is_examined=True)
    except ConfigError as error:
        return Answer(mistake=str(error))
    except Exception:
        return Answer(failure=traceback.format_exc())
    return Answer(imported=imported)


def _examine(question: Question) -> Sequence[str]:
    """Return the modules that were imported for it."""
    known = {*sys.modules}
    examine(question.path, question.config)
    if threading.active_count() > 1:  # one of them has begun a thread, which no fork may have
        return []
    return [name for name in sys.modules if name not in known]
