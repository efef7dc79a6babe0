"""`mimo completion SHELL`: what makes a shell complete the names of jobs, their options and files."""

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import ClassVar, Literal, get_args

import shtab
from pydantic import BaseModel, ConfigDict, Field

from mimo_core.cli.arguments import METAVARS, parse, parser_of
from mimo_core.cli.main import JOBS, OK
from mimo_core.wording import option

CONFIGS: Mapping[str, str | Mapping[str, str]] = {
    "restore": "mimo_core.runs.config:RestoreConfig",
    "evaluate": "mimo_core.runs.config:EvaluateConfig",
    "sweep": "mimo_core.cli.sweep:SweepArguments",
    "triage": "mimo_core.cli.triage:TriageConfig",
    "preview": "mimo_core.cli.preview:PreviewConfig",
    "status": "mimo_core.cli.status:StatusConfig",
    "report": "mimo_core.cli.report:ReportConfig",
    "verify": "mimo_core.cli.verify:VerifyConfig",
    "weights": {
        "list": "mimo_core.cli.weights:ListConfig",
        "inspect": "mimo_core.cli.weights:InspectConfig",
        "convert": "mimo_core.cli.weights:ConvertConfig",
    },
    "export": "mimo_core.cli.export:ExportConfig",
    "quantize": "mimo_core.cli.quantize:QuantizeConfig",
    "train": "mimo_core.training.train_config:TrainConfig",
    "bench": {
        "restore": "mimo_core.cli.bench.restore:BenchRestoreConfig",
        "session": "mimo_core.cli.bench.session:BenchSessionConfig",
        "zoo": "mimo_core.cli.bench.zoo:BenchZooConfig",
        "train": "mimo_core.training.train_config:TrainConfig",
    },
    "doctor": "mimo_core.cli.doctor:DoctorConfig",
    "completion": "mimo_core.cli.completion:CompletionConfig",
}
"""The configuration of each job, or of each of its verbs."""

_PATHS = ("FILE", "FOLDER", "PATH")
_PLACES = ("source", "output", "weights", "target", "sweep", "images", "place", *METAVARS)


class CompletionConfig(BaseModel):
    """Print a script that makes SHELL complete jobs, options and files of `mimo`.

    bash: put `eval "$(mimo completion bash)"` into ~/.bashrc. zsh: `mimo completion zsh > DIR/_mimo`, where DIR is in
    $fpath. fish: `mimo completion fish > ~/.config/fish/completions/mimo.fish`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    EXAMPLES: ClassVar[tuple[str, ...]] = ("bash",)

    shell: Literal["bash", "zsh", "fish"] = Field(description="bash, zsh or fish")


def main(argv: Sequence[str]) -> int:
    """Run the job."""
    config = parse(CompletionConfig, argv, "mimo completion")
    print(shtab.complete(_parser(), config.shell))
    return OK


def _parser() -> argparse.ArgumentParser:
    """Return the parsers of all jobs in one, as nothing else needs it."""
    root = argparse.ArgumentParser("mimo")
    root.add_argument("-V", "--version", action="store_true", help="print the version")
    jobs = root.add_subparsers()
    for job, named in CONFIGS.items():
        if isinstance(named, str):
            _add(jobs, job, JOBS[job], named)
            continue
        verbs = jobs.add_parser(job, help=JOBS[job]).add_subparsers()
        for verb, name in named.items():
            _add(verbs, verb, "", name)
    return root


def _add(parsers: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, config: str) -> None:
    module, _, kind = config.partition(":")
    model: type[BaseModel] = getattr(import_module(module), kind)
    whole = parser_of(model, name)
    fields = {option(field): field for field in model.model_fields} | {field: field for field in model.model_fields}
    for action in whole._actions:
        field = next((fields[one] for one in (*action.option_strings, action.dest) if one in fields), "")
        values = get_args(model.model_fields[field].annotation) if field else ()
        words = [one for value in values for one in (get_args(value) or (value,)) if isinstance(one, str)]
        if words:
            action.choices = words
        elif action.metavar in (*_PATHS, "FILE.yaml") or (not action.option_strings and field in _PLACES):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    # An empty text would be no help at all to shells that show it.
    description = text or " ".join((model.__doc__ or "").split("\n")[0].split())
    parsers.add_parser(name, help=description, description=description, parents=[whole], add_help=False)
