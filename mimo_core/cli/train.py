"""`mimo train OUTPUT`: train weights, or fine-tune some on the blur of an archive."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from mimo_core.cli.arguments import parse
from mimo_core.cli.display import Display
from mimo_core.cli.interruption import INTERRUPTED, end_now
from mimo_core.cli.main import OK
from mimo_core.training.train_config import TrainConfig


def main(argv: Sequence[str]) -> int:
    """Run the job; see `mimo_core.cli.main.run` for the exit codes."""
    config = parse(TrainConfig, argv, "mimo train")
    with Display() as display, stoppable(display.say) as stopped:
        finished = _train(config, display, stopped)
    if not finished:
        display.say("stopped; the same command goes on from the checkpoint")
        return INTERRUPTED
    weights = config.output / "weights.safetensors"
    display.say(f"trained: {weights}; use it with\n  mimo restore SOURCE OUTPUT --weights {weights}")
    return OK


def _train(config: TrainConfig, display: Display, stopped: Callable[[], bool]) -> bool:
    """Train where the configuration and the environment say, and return whether it came to its end."""
    from mimo_core.training.workers import open_process_group, wants_ray

    if wants_ray(config):
        from mimo_core.distributed.training import train

        return train(config, display.say, stopped)
    from mimo_core.training.trainer import Trainer

    with open_process_group():
        trainer = Trainer(config, display.say)
        trainer.run(lambda line: display.say(str(line)), stopped=stopped)
        return trainer.finished


@contextmanager
def stoppable(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C and SIGTERM for the next step to see; a second one ends the process at once.

    Yields:
        Whether a signal has come.
    """
    causes: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if causes:
            end_now()
        causes.append(number)
        say("stopping after this step, with a checkpoint; once more to stop at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(causes)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
