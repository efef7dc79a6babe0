"""`mimo train`: train or fine-tune weights from a configuration file."""

import argparse
import os
import sys
from pathlib import Path

import yaml
from pydantic import ValidationError

from mimo_core.errors import MimoError, UsageError


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, train, and return the exit code."""
    parser = argparse.ArgumentParser(prog="mimo train", description="Train or fine-tune weights; resumes by itself.")
    parser.add_argument("config", type=Path, help="YAML file with the fields of mimo_core.training.config.TrainConfig")
    parser.add_argument("folder", type=Path, help="where checkpoint, log and weights go; resumed if it holds some")
    parser.add_argument("--init", metavar="WEIGHTS", help="start from these weights (a shipped name, a file or a URL)")
    options = parser.parse_args(arguments)
    try:
        return _train(options.config, options.folder, options.init)
    except MimoError as error:
        print(f"mimo train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mimo train: interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130


def _train(file: Path, folder: Path, init: str | None) -> int:
    from mimo_core.training.config import TrainConfig
    from mimo_core.training.trainer import Progress, Trainer

    try:
        config = TrainConfig.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise UsageError(f"{file}: {error}") from error
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Started by torchrun, or as one of several processes with its variables.
        import torch

        torch.distributed.init_process_group("nccl" if config.device.startswith("cuda") else "gloo")
    initial = None
    if init is not None:
        from mimo_core.weights import load_weights

        initial = load_weights(init).state

    def report(line: Progress) -> None:
        scores = "".join(f" | {name} {score.psnr:.2f} dB ({score.gain:+.2f})" for name, score in line.scores.items())
        print(
            f"{100 * line.done:5.1f} %  step {line.step}  loss {line.loss:.4f}  rate {line.rate:.2e}  "
            f"{line.crops_per_second:.1f} crops/s  waited {100 * line.waited:.0f} %{scores}",
            flush=True,
        )

    Trainer(config, folder, initial=initial).run(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
