"""The process of one point: `python -m lpml.sweep.worker`, its job as a line on stdin."""

import faulthandler
import json
import sys
import threading
import traceback
from collections.abc import Callable
from io import FileIO

from lpml.sweep.endings import IN_WORDS
from lpml.sweep.jobs import Job
from lpml.training.loop import Stopped
from lpml.training.run import enable_compile_cache, train
from lpml.training.signals import stop_on_signals


def main() -> int:
    """Runs the job; 0 when it is done or stopped, else 1 with a sentence as the last line.

    The pipe stays open for as long as the parent lives: its end stops the training as a
    signal does, so no worker outlives a killed parent by more than it takes to save.
    """
    faulthandler.enable()
    with stop_on_signals() as asked:
        # unbuffered: at its exit the interpreter waits in vain for a buffer that a thread reads
        pipe = open(0, "rb", buffering=0)  # noqa: SIM115
        name, config, folder, hparams = json.loads(pipe.readline())
        orphaned = _at_the_end_of(pipe)
        enable_compile_cache()
        job = Job(name, config, folder, tuple(hparams))
        return run(job, should_stop=lambda: asked() or orphaned())


def run(job: Job, *, should_stop: Callable[[], bool]) -> int:
    """Trains, and says on stderr in one last line why it could not."""
    try:
        train(job.config, job.folder, hparams=job.hparams, should_stop=should_stop)
    except Stopped:
        return 0
    except Exception as error:
        words = " ".join(str(error).split())
        if not isinstance(error, IN_WORDS):
            traceback.print_exc()
            first = (str(error).strip() or "no message").splitlines()[0]
            words = f"{type(error).__name__}: {first}"
        print(words, file=sys.stderr)
        return 1
    return 0


def _at_the_end_of(pipe: FileIO) -> Callable[[], bool]:
    ended = threading.Event()

    def wait():
        pipe.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended.is_set


if __name__ == "__main__":
    sys.exit(main())
