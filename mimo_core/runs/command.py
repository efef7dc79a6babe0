"""The command that a run was begun with, made again from what its folder holds."""

import shlex

from mimo_core.runs.config import EvaluateConfig, RestoreConfig, RunConfig
from mimo_core.runs.folder import RunManifest
from mimo_core.wording import option

# What says how one command is to be carried out, and nothing of the run.
_OF_ONE_COMMAND = ("mode", "dry_run")


def command_of(manifest: RunManifest, output: str, mode: str = "resume") -> str:
    """Return the command that goes on with a run, or does to it what `mode` says, with the run's own options.

    Args:
        manifest: what the run is.
        output: where it lies.
        mode: as of `--mode`.
    """
    kind: type[RunConfig] = EvaluateConfig if manifest.recipe.evaluates else RestoreConfig
    words = ["mimo", "evaluate" if manifest.recipe.evaluates else "restore", manifest.source]
    options = dict(manifest.options)
    for name in ("reference", "restored"):
        if getattr(manifest, name):
            # As absolute as the source, so that the command works from any folder.
            options[name] = getattr(manifest, name)
    if kind.model_fields["reference"].is_required():
        words.append(str(options.pop("reference")))
    words.append(output)
    for name, field in kind.model_fields.items():
        if name not in options or field.is_required() or name in _OF_ONE_COMMAND or options[name] == field.default:
            continue
        value = options[name]
        if isinstance(value, bool):
            words.append(option(name) if value else f"--no-{option(name)[2:]}")
        elif isinstance(value, (list, tuple)):
            words += [word for one in value for word in (option(name), str(one))]
        else:
            words += [option(name), str(value)]
    if mode != "resume":
        words += ["--mode", mode]
    return shlex.join(words)
