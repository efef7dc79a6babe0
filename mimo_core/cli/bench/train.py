"""`mimo bench train OUTPUT`: whether the preparation of crops keeps up with the network that learns from them."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import OK
from mimo_core.cli.terminal import Terminal
from mimo_core.training.train_config import TrainConfig
from mimo_core.wording import count

_SECONDS = 5.0
"""How long each rate is measured, at least."""


def main(argv: Sequence[str]) -> int:
    """Measure with the options of `mimo train`; OUTPUT is not touched."""
    config = parse(TrainConfig, argv, "mimo bench train")
    from mimo_core.training.loader import open_mixture
    from mimo_core.training.rates import loading_rate, network_rate
    from mimo_core.training.trainer import Trainer

    table = Table(box=None, padding=(0, 2, 0, 0))
    for header in ("what", "crop", "crops/s", "ratio"):
        table.add_column(header, justify="left" if header == "what" else "right")
    with tempfile.TemporaryDirectory(prefix="mimo-bench-") as folder:
        trainer = Trainer(config.model_copy(update={"output": Path(folder), "validation": ()}))
        means = trainer.means
        mixture = open_mixture(config.data, seed=config.seed)
        for crop in dict.fromkeys((config.crop, config.final_crop or config.crop)):
            network = network_rate(trainer, mixture, crop, _SECONDS)
            what = f"network: {trainer.spec.variant}, {means.precision} on {means.device}"
            table.add_row(what, str(crop), f"{network:.1f}", "1.00")
            for threads in dict.fromkeys((1, means.loaders)):
                loading = loading_rate(mixture, config, crop, threads, _SECONDS)
                what = f"preparing crops: {count(threads, 'thread')}"
                table.add_row(what, str(crop), f"{loading:.1f}", f"{loading / network:.2f}")
    Terminal().print_table(table)
    return OK
