"""The process that tries a configuration: a child of the fork server."""

import os
import pickle
import traceback

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
        if question.prepares:
            prepare(question.path, question.config, question.is_examined)
        else:
            examine(question.path, question.config)
    except ConfigError as error:
        return Answer(mistake=str(error))
    except Exception:
        return Answer(failure=traceback.format_exc())
    return Answer()
