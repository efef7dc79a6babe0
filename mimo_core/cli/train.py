"""`mimo train OUTPUT`: train weights, or fine-tune some on the blur of an archive."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from mimo_core.cli.arguments import parse
from mimo_core.cli.interruption import INTERRUPTED, end_now
from mimo_core.cli.main import OK
from mimo_core.training.train_config import TrainConfig
from mimo_core.wording import count

if TYPE_CHECKING:
    from mimo_core.cli.display import Display

_FEW_STEPS = 100


def main(argv: Sequence[str]) -> int:
    """Run the job; see `mimo_core.cli.main.run` for the exit codes."""
    config = parse(TrainConfig, argv, "mimo train")
    from mimo_core.cli.display import Display

    with Display() as display, stoppable(display.say) as stopped:
        finished = _train(config, display, stopped)
    if not finished:
        display.say("stopped; the same command goes on from the checkpoint")
        return INTERRUPTED
    from mimo_core.training.log import last_step

    weights = config.output / "weights.safetensors"
    steps = last_step(config.output)
    if steps < _FEW_STEPS:
        display.say(f"{count(steps, 'step')} hardly change the weights: train longer with --minutes or --steps")
    display.say(
        f"trained for {count(steps, 'step')}: {weights}; use it with\n  mimo restore SOURCE OUTPUT --weights {weights}"
    )
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
