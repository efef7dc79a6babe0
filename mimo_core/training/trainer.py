"""The training loop: from a configuration to weights, resumable at any checkpoint."""

import json
import math
import time
from collections.abc import Callable

import torch
from torch import nn

from mimo_core.errors import MimoError, UsageError
from mimo_core.hardware import Hardware
from mimo_core.images.scales import FULL
from mimo_core.models.architecture import Interpolation
from mimo_core.models.network import MimoUNet, arrays_of
from mimo_core.models.variants import parse_variant
from mimo_core.models.weights import ModelSpec, save_weights
from mimo_core.training import checkpoints
from mimo_core.training.checkpoints import Checkpoint, Exact
from mimo_core.training.coarse_passes import corrected, draw_chain
from mimo_core.training.ema import MovingAverage
from mimo_core.training.loader import Batch, Loader, open_mixture
from mimo_core.training.log import NAME, Log, Meter, Progress
from mimo_core.training.losses import decibel_loss, multi_scale_loss
from mimo_core.training.optimizer import make_optimizer
from mimo_core.training.schedule import crop_of, learning_rate, progress_of
from mimo_core.training.start import choose_means, open_network
from mimo_core.training.train_config import TrainConfig
from mimo_core.training.validation import Score, Validation
from mimo_core.training.workers import join_workers

# What may differ between the parts of a resumed training: where, on what and how long it runs, and what is told of it.
_FREE_TO_CHANGE = frozenset(
    {"output", "data", "minutes", "steps", "workers", "device", "threads", "loaders", "scales"}
    | {"log_every", "validate_minutes", "checkpoint_minutes", "validation"}
)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_BLOCK = 32
"""Batches after which their crops come again, where they do."""
_WARM_STEPS = 100
"""Steps over which the rate rises where a slim checkpoint left the optimiser without its memory."""


class Trainer:
    """One training in one folder: `config.json`, `log.csv`, `checkpoint/`, `weights.safetensors`.

    Args:
        config: what to train, on what, and how. An output that holds a checkpoint is resumed.
        say: takes lines for people, on the leading worker.

    Raises:
        UsageError: the output holds another training, or data or device are missing.
    """

    def __init__(self, config: TrainConfig, say: Callable[[str], None] = lambda _: None) -> None:
        self.config = config
        self.workers = join_workers()
        self._say = say if self.workers.leads else lambda _: None
        self.means = choose_means(config, Hardware.here())
        if self.means.threads is not None:
            torch.set_num_threads(self.means.threads)
        checkpoint = checkpoints.load(config.output) if checkpoints.exists(config.output) else None
        if checkpoint is None:
            self.spec, network, self.scales = open_network(config)
        else:
            self._refuse_another(checkpoint)
            width, num_res = parse_variant(checkpoint.model["variant"])
            interpolation: Interpolation = checkpoint.model["interpolation"]  # type: ignore[assignment]
            self.spec = ModelSpec(width, num_res, interpolation)
            self.scales = config.scales or checkpoint.model.get("scales", FULL)
            network = MimoUNet(width, num_res, interpolation, config.dropout)
            network.load_state_dict(checkpoint.network)
        device = self.means.device
        self.network: MimoUNet = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        dtype = _DTYPES[self.means.precision]
        self.optimizer = make_optimizer(config.optimizer, self.network, config.highest_rate, dtype)
        self.average = MovingAverage(self.network, config.ema)
        self.step, self.seconds = 0, 0.0
        self._warm_from: int | None = None
        if checkpoint is not None:
            self._resume(checkpoint)
        elif self.workers.leads:
            config.output.mkdir(parents=True, exist_ok=True)
            (config.output / "config.json").write_text(config.model_dump_json(indent=2), encoding="utf-8")
        self._validation = Validation(config.validation if self.workers.leads else ())
        self._tick = time.perf_counter()

    @property
    def finished(self) -> bool:
        """Whether the configured length is reached."""
        return progress_of(self.config, self.step, self.seconds) >= 1.0

    def run(
        self,
        report: Callable[[Progress], None],
        *,
        stop_after: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> dict[str, Score]:
        """Train to the configured length.

        Args:
            report: takes every line of the log, on the leading worker.
            stop_after: stop after this many more steps.
            stopped: asked after every step; true on any worker saves a checkpoint and stops all of them.

        Returns:
            The last scores of the averaged weights on the held-out sets; none after an early stop.

        Raises:
            MimoError: the loss is no number any more. The last checkpoint is from before.
        """
        config = self.config
        loader = Loader(
            open_mixture(config.data, seed=config.seed, repeats=config.repeats, block=_BLOCK * config.batch),
            config.batch,
            lambda step: crop_of(config, progress_of(config, step, self.seconds)),
            start=self.step,
            threads=self.means.loaders,
            rank=self.workers.rank,
            world=self.workers.world,
        )
        log = None
        if self.workers.leads:
            log = Log(config.output / NAME, self._validation.names, self.step)
        last_step = None if stop_after is None else self.step + stop_after
        validated = saved = self.seconds
        self._tick = time.perf_counter()
        meter, stop = Meter(), False
        try:
            while not (self.finished or stop or self.step == last_step):
                done = progress_of(config, self.step, self.seconds)
                started = time.perf_counter()
                batch = next(loader)
                waited = time.perf_counter() - started
                rate = self._rate(done)
                loss, norm, elapsed, stop = self.train_on(batch, rate, stop=stopped())
                meter.add(loss, norm, waited, elapsed)
                if log is None:
                    continue
                scores = {}
                if self.seconds - validated >= 60.0 * config.validate_minutes:
                    scores, validated = self.validate(), self.seconds
                ends = self.finished or stop or self.step == last_step
                if (self.step % config.log_every == 0 or scores) and not ends:
                    self._write(log, report, meter, done, scores)
                    meter = Meter()
                if self.seconds - saved >= 60.0 * config.checkpoint_minutes:
                    self.save()
                    saved = self.seconds
            if log is None:
                return {}
            self.save()
            scores = {} if stop else self.validate()
            if meter.steps:
                self._write(log, report, meter, progress_of(config, self.step, self.seconds), scores)
            return scores
        finally:
            loader.close()
            if log is not None:
                log.close()

    def validate(self) -> dict[str, Score]:
        """Return the scores of the averaged weights on the held-out sets."""
        return self._validation.score(self.averaged_network())

    def averaged_network(self) -> MimoUNet:
        """Return the network with the averaged weights, float32, in evaluation mode."""
        network = MimoUNet(self.spec.width, self.spec.num_res, self.spec.interpolation)
        network.load_state_dict(self.average.state)
        return network.to(self.means.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]

    def save(self) -> None:
        """Write the checkpoint and the averaged weights."""
        config = self.config
        checkpoints.save(
            Checkpoint(
                step=self.step,
                seconds=self.seconds,
                model={
                    "variant": self.spec.variant,
                    "interpolation": self.spec.interpolation,
                    "scales": self.scales,
                },
                config=json.loads(config.model_dump_json()),
                network=self.network.state_dict(),
                average=self.average.state,
                average_steps=self.average.steps,
                exact=Exact(self.optimizer.state_dict(), torch.get_rng_state()),
            ),
            config.output,
        )
        kinds = ", ".join(sorted({entry.kind for entry in config.data}))
        save_weights(
            config.output / "weights.safetensors",
            self.spec,
            arrays_of(self.average.state),
            trained_on=kinds,
            scales=self.scales,
        )

    def train_on(self, batch: Batch, rate: float, *, stop: bool = False) -> tuple[float, float, float, bool]:
        """Take one optimiser step at a learning rate; `stop` says that this worker wants to stop.

        Returns:
            Loss, gradient norm before clipping, seconds since the last step, and whether any worker wants to stop:
            equal on all workers.

        Raises:
            MimoError: the loss is no number any more.
        """
        config, device = self.config, self.means.device
        # Bytes travel to the device, where they become floating-point.
        blurred, sharp = (
            pixels.to(device, non_blocking=True).float().div_(255.0) for pixels in (batch.blurred, batch.sharp)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.means.precision == "bf16"):
            blurred = corrected(self.network, blurred, draw_chain(config.seed, self.step, config.corrected))
            outputs = self.network(blurred)
        if config.loss == "decibel":
            loss = decibel_loss(outputs, sharp)
        else:
            loss = multi_scale_loss(outputs, sharp, config.frequency_weight)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        now = time.perf_counter()
        value, elapsed, stops = self.workers.average(
            self.network.parameters(), float(loss.detach()), now - self._tick, float(stop)
        )
        self._tick = now
        if not math.isfinite(value):
            raise MimoError(
                f"the loss is {value} after {self.step} steps: the training diverged. {config.output} keeps the last "
                "checkpoint and its weights; train anew with a lower --learning-rate, or more --warmup."
            )
        limit = config.clip_norm if config.clip_norm is not None else math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        self.optimizer.step()
        self.average.update(self.network)
        self.step += 1
        self.seconds += elapsed
        return value, float(norm), elapsed, stops > 0.0

    def _rate(self, done: float) -> float:
        rate = learning_rate(self.config, done)
        if self._warm_from is not None:
            rate *= min((self.step - self._warm_from + 1) / _WARM_STEPS, 1.0)
        return rate

    def _write(
        self, log: Log, report: Callable[[Progress], None], meter: Meter, done: float, scores: dict[str, Score]
    ) -> None:
        line = meter.progress(
            step=self.step,
            seconds=self.seconds,
            done=done,
            rate=self._rate(done),
            batch=self.config.batch,
            scores=scores,
        )
        log.write(line)
        report(line)

    def _refuse_another(self, checkpoint: Checkpoint) -> None:
        now = json.loads(self.config.model_dump_json())
        # Read as a configuration, an older checkpoint takes the defaults of fields that did not exist yet.
        then = json.loads(TrainConfig.model_validate(checkpoint.config).model_dump_json())
        changed = [name for name in now if now[name] != then[name] and name not in _FREE_TO_CHANGE]
        if changed:
            raise UsageError(
                f"{self.config.output} holds a training with another configuration: "
                + "; ".join(f"{name} was {then[name]}, now {now[name]}" for name in changed)
                + ". Choose another OUTPUT, or the same options to go on."
            )

    def _resume(self, checkpoint: Checkpoint) -> None:
        self.average.restore(checkpoint.average, checkpoint.average_steps)
        self.step, self.seconds = checkpoint.step, checkpoint.seconds
        minutes = f"step {self.step}, {self.seconds / 60.0:.1f} minutes of training"
        if checkpoint.exact is not None:
            self.optimizer.load_state_dict(checkpoint.exact.optimizer)
            torch.set_rng_state(checkpoint.exact.random_state)
            same = json.loads(self.config.model_dump_json())["data"] == checkpoint.config["data"]
            self._say(f"goes on exactly from {minutes}" if same else f"goes on with other data from {minutes}")
        else:
            self._warm_from = self.step
            self._say(f"goes on from {minutes}; without the optimiser's memory the rate rises anew")
