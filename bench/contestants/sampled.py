"""A Python program that samples its own stacks, as often as it uses CPU.

Run as `python sampled.py FILE PROGRAM [ARGUMENT...]`. A first SIGUSR2 begins; a second one ends,
and writes to FILE a line for each stack: the files of its frames, outermost first, and how often it
was found. What the kernel does for a call, and what C does, belongs to the frame that called.
"""

import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

SECONDS = 0.002
"""Of CPU, between two samples; the kernel's clock may tick less often."""


class Sampler:
    """Counts stacks between one signal and the next."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stacks: Counter[tuple[str, ...]] = Counter()
        self._samples = False

    def install(self) -> None:
        """Listen to the two signals, in the thread that is sampled."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR2, self._toggle)

    def _sample(self, number: int, frame: FrameType | None) -> None:
        files = []
        while frame is not None:
            files.append(frame.f_code.co_filename)
            frame = frame.f_back
        self._stacks[tuple(reversed(files))] += 1

    def _toggle(self, number: int, frame: FrameType | None) -> None:
        self._samples = not self._samples
        interval = SECONDS if self._samples else 0
        signal.setitimer(signal.ITIMER_PROF, interval, interval)
        if not self._samples:
            self._write()

    def _write(self) -> None:
        lines = [f"{';'.join(stack)} {count}\n" for stack, count in self._stacks.items()]
        self._stacks.clear()
        written = self._file.with_suffix(".new")
        written.write_text("".join(lines))
        written.rename(self._file)


def main(file: Path, argv: list[str]) -> None:
    """Become the program."""
    Sampler(file).install()
    sys.argv[:] = argv
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
