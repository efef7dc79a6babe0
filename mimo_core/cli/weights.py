"""`mimo weights list|inspect|convert`: what is shipped, what a file holds, and other layouts of it."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import OK, USAGE
from mimo_core.cli.streams import show
from mimo_core.cli.terminal import Terminal
from mimo_core.wording import size

_USAGE = """usage: mimo weights list
       mimo weights inspect FILE
       mimo weights convert FILE TARGET

  list     the weights that come with the package, with their scores
  inspect  what a file (or shipped name, or URL) holds
  convert  rewrite a file as .safetensors, or as .pkl/.pth in the official layout"""


class ListConfig(BaseModel):
    """List the weights that come with the package."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InspectConfig(BaseModel):
    """Say what a weights file holds."""

    EXAMPLES: ClassVar[tuple[str, ...]] = ("mimo-unet-lite",)

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str = Field(description="shipped name, file or URL")


class ConvertConfig(BaseModel):
    """Rewrite weights; an existing TARGET is never overwritten."""

    EXAMPLES: ClassVar[tuple[str, ...]] = ("model.pkl model.safetensors --interpolation nearest",)

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str = Field(description="shipped name, file or URL")
    target: str = Field(description="file to write: .safetensors, .pkl or .pth")
    interpolation: Literal["nearest", "bilinear"] | None = Field(None, description="what the metadata shall say")
    half: bool | None = Field(None, description="store float16 (default: for .safetensors, where little is lost)")


def main(argv: Sequence[str]) -> int:
    """Run `mimo weights VERB ...`."""
    verb, rest = (argv[0], argv[1:]) if argv else ("", [])
    if verb in ("-h", "--help"):
        print(_USAGE)
        return OK
    if verb == "list":
        parse(ListConfig, rest, "mimo weights list")
        return _list()
    if verb == "inspect":
        return _inspect(parse(InspectConfig, rest, "mimo weights inspect"))
    if verb == "convert":
        return _convert(parse(ConvertConfig, rest, "mimo weights convert"))
    near = get_close_matches(verb, ("list", "inspect", "convert"), n=1)
    print(_USAGE + (f"\n\ndid you mean `mimo weights {near[0]}`?" if near else ""), file=sys.stderr)
    return USAGE


def _list() -> int:
    from mimo_core.models.shipped import shipped

    console = Terminal()
    for weights in shipped():
        card = weights.card
        state = "" if weights.trained else "  [not trained yet]"
        console.print(f"{weights.name}: {card.title}{state}", markup=False)
        if not weights.trained:
            continue
        table = Table(box=None, padding=(0, 2, 0, 2))
        table.add_column("scored on")
        for header in ("images", "PSNR dB", "gain dB", "worst"):
            table.add_column(header, justify="right")
        for score in card.scores:
            gains = ("" if gain is None else f"{gain:+.2f}" for gain in (score.gain, score.worst_gain))
            table.add_row(f"{score.set}, {score.size}", str(score.images), f"{score.psnr:.2f}", *gains)
        console.print_table(table)
    return OK


def _inspect(config: InspectConfig) -> int:
    from mimo_core.models.convert import inspect_weights

    found = inspect_weights(config.weights)
    rows = [
        ("file", f"{found.source} ({size(found.bytes)}, {found.format})"),
        ("network", f"{found.spec.variant}: width {found.spec.width}, {found.spec.num_res} residual blocks a stage"),
        ("interpolation", f"{found.spec.interpolation} ({found.interpolation_from})"),
        ("parameters", f"{found.parameters:,} in {', '.join(found.dtypes)}, largest {found.largest:.4g}"),
        ("arithmetic", f"{found.gflops_360x640:.1f} GFLOP for 3x360x640"),
        ("sha256", found.sha256),
        ("git object", found.git_object + (f" (taken for the official {found.official})" if found.official else "")),
        *((name, _shortened(value)) for name, value in sorted(found.metadata.items()) if value),
    ]
    if found.other_keys:
        rows.append(("also in it", ", ".join(found.other_keys)))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        show(f"{name:<{width}}  {value}")
    return OK


def _shortened(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def _convert(config: ConvertConfig) -> int:
    from mimo_core.models.convert import convert_weights

    done = convert_weights(config.weights, Path(config.target), interpolation=config.interpolation, half=config.half)
    error = f", values differ by {done.largest_error:.2g} at most" if done.largest_error else ""
    made_for = f"{done.spec.variant} ({done.spec.interpolation}, scales {done.scales})"
    show(f"{done.target}: {made_for}, {size(done.bytes)}{error}")
    print(f"sha256 {done.sha256}")
    return OK
