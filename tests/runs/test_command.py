"""The command that a run was begun with, made again from its folder."""

import shlex
from pathlib import Path

import pytest
from inprocess import recipe_of

from mimo_core.cli.arguments import parse
from mimo_core.runs.command import command_of
from mimo_core.runs.config import EvaluateConfig, RestoreConfig, RunConfig
from mimo_core.runs.folder import RunManifest


@pytest.mark.parametrize(
    ("kind", "argv"),
    [
        (RestoreConfig, ["/in put", "/out"]),
        (
            RestoreConfig,
            ["/in", "/out", "--reference", "/sharp", "--include", "*.x", "--include", "*.y", "--limit", "3"],
        ),
        (RestoreConfig, ["/in", "/out", "--batch", "4", "--allow-mixed", "--mode", "overwrite", "--timeout", "7.5"]),
        (EvaluateConfig, ["/in", "/sharp", "/out", "--protocol", "zoo", "--save-images"]),
        (EvaluateConfig, ["/in", "/sharp", "/out", "--restored", "/made"]),
    ],
)
def test_the_command_asks_for_the_run_that_it_was_begun_with(kind: type[RunConfig], argv: list[str]) -> None:
    config = parse(kind, argv, "mimo")
    manifest = RunManifest.of(config, recipe_of(evaluates=config.evaluates))
    words = shlex.split(command_of(manifest, "/out", "retry-failed"))
    assert words[:2] == ["mimo", "evaluate" if config.evaluates else "restore"]
    assert parse(kind, words[2:], "mimo") == config.model_copy(update={"mode": "retry-failed"})
    assert "--mode" not in command_of(manifest, "/out")


def test_it_works_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = RunManifest.of(RestoreConfig(source="in", output="out", reference="sharp"), recipe_of())
    assert command_of(manifest, "/out") == f"mimo restore {tmp_path}/in /out --reference {tmp_path}/sharp"
