"""The training loop: from a configuration and a folder to weights, resumable at any checkpoint."""

import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mimo_core.errors import UsageError
from mimo_core.network import MimoUNet
from mimo_core.training import checkpoints
from mimo_core.training.checkpoints import Checkpoint
from mimo_core.training.config import TrainConfig
from mimo_core.training.data import Batch, Loader, open_mixture
from mimo_core.training.ema import MovingAverage
from mimo_core.training.losses import decibel_loss, multi_scale_loss
from mimo_core.training.optimizer import make_optimizer
from mimo_core.training.schedule import crop_of, learning_rate, progress_of
from mimo_core.training.validation import Score, Validation
from mimo_core.training.workers import join_workers
from mimo_core.weights import ModelSpec, save_weights

# What may differ between the parts of a resumed training without changing what it learns.
_FREE_TO_CHANGE = frozenset(
    {"minutes", "threads", "loaders", "log_every", "validate_minutes", "checkpoint_minutes", "validation"}
)


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_BLOCK = 32
"""Batches after which their crops come again, where they do."""
_BRANCH = 0.2
"""How weak residual branches start."""


@dataclass(frozen=True)
class Progress:
    """One line of the log, for printing."""

    step: int
    done: float
    loss: float
    rate: float
    crops_per_second: float
    waited: float
    """Share of the time that training waited for data."""
    scores: dict[str, Score]


class Trainer:
    """One training in one folder: `config.json`, `log.csv`, `checkpoint.pt`, `weights.safetensors`.

    Args:
        config: What to train, on what, and how.
        folder: Where the training lives. One that holds a checkpoint is resumed.
        initial: Weights to start from (fine-tuning); their shapes must be the configuration's.

    Raises:
        UsageError: The folder holds another training, or the data are missing.
    """

    def __init__(self, config: TrainConfig, folder: Path, *, initial: dict[str, Tensor] | None = None) -> None:
        self.config, self.folder = config, folder
        self.workers = join_workers()
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        network = MimoUNet(config.width, config.num_res, config.interpolation, config.dropout)
        if initial is not None:
            network.load_state_dict(initial)
        elif config.zero_start:
            initialise(network)
        self.network = network.to(config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(config.optimizer, self.network, config.learning_rate, _DTYPES[config.precision])
        self.average = MovingAverage(self.network, config.ema)
        self.step, self.seconds = 0, 0.0
        self._tick = time.perf_counter()
        if self._checkpoint_path.exists():
            self._resume(checkpoints.load(self._checkpoint_path))
        elif self.workers.leads:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.json").write_text(config.model_dump_json(indent=2))
        self._validation = Validation(config.validation if self.workers.leads else ())

    @property
    def _checkpoint_path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def run(self, report: Callable[[Progress], None], *, stop_after: int | None = None) -> dict[str, Score]:
        """Train to the configured length, or for `stop_after` more steps.

        Returns:
            The last scores of the averaged weights on the held-out sets.
        """
        config = self.config
        loader = Loader(
            open_mixture(config.data, seed=config.seed, repeats=config.repeats, block=_BLOCK * config.batch),
            config.batch,
            lambda step: crop_of(config, progress_of(config, step, self.seconds)),
            start=self.step,
            threads=config.loaders,
            rank=self.workers.rank,
            world=self.workers.world,
        )
        log = None
        if self.workers.leads:
            log = _Log(self.folder / "log.csv", [entry.name for entry in config.validation], self.step)
        last_step = None if stop_after is None else self.step + stop_after
        validated = saved = self.seconds
        self._tick = time.perf_counter()
        meter = _Meter()
        scores: dict[str, Score] = {}
        try:
            while (done := progress_of(config, self.step, self.seconds)) < 1.0 and self.step != last_step:
                started = time.perf_counter()
                batch = next(loader)
                waited = time.perf_counter() - started
                rate = learning_rate(config, done)
                loss, norm, elapsed = self._train(batch, rate)
                self.step += 1
                self.seconds += elapsed
                meter.add(loss, norm, waited, elapsed)
                scores = {}
                if log is None:
                    continue
                if self.seconds - validated >= 60.0 * config.validate_minutes:
                    scores, validated = self.validate(), self.seconds
                if self.step % config.log_every == 0 or scores:
                    report(log.write(self, done, rate, meter, scores))
                    meter = _Meter()
                if self.seconds - saved >= 60.0 * config.checkpoint_minutes:
                    self.save()
                    saved = self.seconds
            if log is not None:
                self.save()
                scores = self.validate()
                done = progress_of(config, self.step, self.seconds)
                report(log.write(self, done, learning_rate(config, done), meter, scores))
            return scores
        finally:
            loader.close()
            if log is not None:
                log.close()

    def validate(self) -> dict[str, Score]:
        """Scores of the averaged weights on the held-out sets."""
        return self._validation.score(self.averaged_network())

    def averaged_network(self) -> MimoUNet:
        """The network with the averaged weights, float32, in evaluation mode."""
        config = self.config
        network = MimoUNet(config.width, config.num_res, config.interpolation, config.dropout)
        network.load_state_dict(self.average.state)
        return network.to(config.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]

    def save(self) -> None:
        """Write the checkpoint and the averaged weights."""
        checkpoints.save(
            Checkpoint(
                step=self.step,
                seconds=self.seconds,
                network=self.network.state_dict(),
                average=self.average.state,
                average_steps=self.average.steps,
                optimizer=self.optimizer.state_dict(),
                random_state=torch.get_rng_state(),
                config=json.loads(self.config.model_dump_json()),
            ),
            self._checkpoint_path,
        )
        config = self.config
        save_weights(
            self.folder / "weights.safetensors",
            ModelSpec(config.width, config.num_res, config.interpolation),
            self.average.state,
            trained_on=", ".join(sorted({entry.kind for entry in config.data})),
        )

    def _train(self, batch: Batch, rate: float) -> tuple[float, float, float]:
        """One optimiser step: loss, gradient norm before clipping, seconds since the last; equal on all workers."""
        config = self.config
        blurred, sharp = (tensor.to(config.device, non_blocking=True) for tensor in (batch.blurred, batch.sharp))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        device_type = torch.device(config.device).type
        with torch.autocast(device_type, torch.bfloat16, enabled=config.precision == "bf16"):
            outputs = self.network(blurred)
        if config.loss == "decibel":
            loss = decibel_loss(outputs, sharp)
        else:
            loss = multi_scale_loss(outputs, sharp, config.frequency_weight)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        now = time.perf_counter()
        value, elapsed = self.workers.average(self.network.parameters(), float(loss.detach()), now - self._tick)
        self._tick = now
        limit = config.clip_norm if config.clip_norm is not None else float("inf")
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        self.optimizer.step()
        self.average.update(self.network)
        return value, float(norm), elapsed

    def _resume(self, checkpoint: Checkpoint) -> None:
        now = json.loads(self.config.model_dump_json())
        # Read as a configuration, an older checkpoint takes the defaults of fields that did not exist yet.
        then = json.loads(TrainConfig.model_validate(checkpoint.config).model_dump_json())
        changed = [name for name in now if now[name] != then[name] and name not in _FREE_TO_CHANGE]
        if changed:
            raise UsageError(
                f"{self.folder} holds a training with another configuration: "
                + "; ".join(f"{name} was {then[name]}, now {now[name]}" for name in changed)
                + ". Choose another folder, or the same configuration to resume."
            )
        self.network.load_state_dict(checkpoint.network)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        device = self.config.device
        self.average.state = {name: tensor.to(device) for name, tensor in checkpoint.average.items()}
        self.average.steps = checkpoint.average_steps
        self.step, self.seconds = checkpoint.step, checkpoint.seconds
        torch.set_rng_state(checkpoint.random_state)


def initialise(network: MimoUNet) -> None:
    """Weights to start from: every layer passes the image on at its strength, and the network returns its input.

    torch's own start weakens the signal by 0.4 at every layer, until deep features are mostly bias. Residual branches
    start weak, so that a chain of them is stable, and the last convolution of each scale starts at zero.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.ConvTranspose2d):
            # Each output value of a 4x4 kernel with stride 2 sums four of its sixteen positions.
            nn.init.normal_(module.weight, std=(2.0 / (module.in_channels * 4)) ** 0.5)
        else:
            continue
        assert module.bias is not None
        nn.init.zeros_(module.bias)
    for stage in (*network.Encoder, *network.Decoder):
        for name, parameter in stage.named_parameters():
            if ".main.1." in name:
                parameter.data.mul_(_BRANCH)
    for output in (network.feat_extract[5], network.ConvsOut[0], network.ConvsOut[1]):
        for parameter in output.parameters():
            nn.init.zeros_(parameter)


class _Meter:
    """Means since the last line of the log."""

    def __init__(self) -> None:
        self.steps, self.loss, self.norm, self.waited, self.elapsed = 0, 0.0, 0.0, 0.0, 0.0

    def add(self, loss: float, norm: float, waited: float, elapsed: float) -> None:
        self.steps += 1
        self.loss += loss
        self.norm += norm
        self.waited += waited
        self.elapsed += elapsed


class _Log:
    """The CSV log: one row every so many steps; a resumed training drops the rows after its checkpoint."""

    _COLUMNS = ("step", "minutes", "done", "rate", "loss", "gradient_norm", "crops_per_second", "waited")

    def __init__(self, path: Path, sets: list[str], step: int) -> None:
        scores = [f"{name}_{column}" for name in sets for column in ("psnr", "gain", "ssim")]
        columns = [*self._COLUMNS, *scores]
        kept: list[dict[str, Any]] = []
        if step and path.exists():
            with path.open(newline="") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        self._file = path.open("w", newline="")
        self._writer = csv.DictWriter(self._file, columns, restval="", extrasaction="ignore")
        self._writer.writeheader()
        self._writer.writerows(kept)
        self._file.flush()

    def write(self, trainer: Trainer, done: float, rate: float, meter: _Meter, scores: dict[str, Score]) -> Progress:
        steps, elapsed = max(meter.steps, 1), max(meter.elapsed, 1e-9)
        line = Progress(
            step=trainer.step,
            done=done,
            loss=meter.loss / steps,
            rate=rate,
            crops_per_second=meter.steps * trainer.config.batch / elapsed,
            waited=meter.waited / elapsed,
            scores=scores,
        )
        row: dict[str, object] = {
            "step": line.step,
            "minutes": f"{trainer.seconds / 60.0:.3f}",
            "done": f"{done:.5f}",
            "rate": f"{rate:.4g}",
            "loss": f"{line.loss:.6f}",
            "gradient_norm": f"{meter.norm / steps:.5g}",
            "crops_per_second": f"{line.crops_per_second:.3f}",
            "waited": f"{line.waited:.4f}",
        }
        for name, score in scores.items():
            row |= {f"{name}_psnr": f"{score.psnr:.4f}", f"{name}_gain": f"{score.gain:.4f}"}
            row[f"{name}_ssim"] = f"{score.ssim:.5f}"
        self._writer.writerow(row)
        self._file.flush()
        return line

    def close(self) -> None:
        self._file.close()
