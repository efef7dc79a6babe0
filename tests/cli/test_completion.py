"""Completion in a real bash, and in other shells where there are some; help and its examples."""

import io
import shlex
import shutil
import subprocess
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import BaseModel

from mimo_core.cli.arguments import parse
from mimo_core.cli.completion import CONFIGS
from mimo_core.cli.main import JOBS, OK, USAGE, main

# As Readline calls a completion: the words of the line, and the place of the last one.
ASK = """
eval "$SCRIPT"
words=({line})
COMP_WORDS=("${{words[@]}}" {last})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
function=$(complete -p mimo | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function mimo "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def script(shell: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["completion", shell]) == OK
    return out.getvalue()


def completed(line: str, last: str, folder: Path) -> set[str]:
    """What a bash in a folder offers for the last word of a line."""
    code = ASK.format(line=line, last=shlex.quote(last))
    done = subprocess.run(
        ["bash", "--norc", "-c", code],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "SCRIPT": script("bash")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_every_job_is_completed() -> None:
    assert set(CONFIGS) == set(JOBS)


@pytest.mark.parametrize(
    ("line", "last", "expected"),
    [
        ("mimo", "re", {"restore", "report"}),
        ("mimo", "", set(JOBS)),
        ("mimo restore in out", "--mo", {"--model", "--mode"}),
        ("mimo restore in out --mode", "re", {"resume", "retry-failed"}),
        ("mimo weights", "", {"list", "inspect", "convert"}),
        ("mimo bench session", "--pre", {"--precision"}),
        ("mimo completion", "z", {"zsh"}),
    ],
)
def test_bash_completes_jobs_options_and_their_values(line: str, last: str, expected: set[str], tmp_path: Path) -> None:
    assert expected <= completed(line, last, tmp_path)
    assert all(one.startswith(last) for one in completed(line, last, tmp_path))


def test_bash_completes_files(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "plan.csv").touch()
    assert completed("mimo restore", "p", tmp_path) == {"photos", "plan.csv"}
    assert completed("mimo restore a b --weights", "pl", tmp_path) == {"plan.csv"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_can_read(shell: str, tmp_path: Path) -> None:
    text = script(shell)
    assert "retry-failed" in text
    if shutil.which(shell) is None:
        return
    (tmp_path / "script").write_text(text)
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True, timeout=60)


def configurations() -> dict[str, type[BaseModel]]:
    found = {}
    for job, named in CONFIGS.items():
        verbs = {job: named} if isinstance(named, str) else {f"{job} {verb}": name for verb, name in named.items()}
        for title, place in verbs.items():
            module, _, name = place.partition(":")
            found[title] = getattr(import_module(module), name)
    return found


@pytest.mark.parametrize("title", configurations())
def test_examples_of_help_can_be_typed(title: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in ("photographs", "GoPro/train/blur", "GoPro/train/sharp", "GoPro/test/blur", "GoPro/test/sharp"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    config = configurations()[title]
    for line in getattr(config, "EXAMPLES", ()):
        parse(config, shlex.split(line), f"mimo {title}")


def test_help_shows_what_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["restore", "--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: mimo restore SOURCE OUTPUT [options]\n")
    assert text.index("\narguments:") < text.index("\nnetwork:") < text.index("\nexamples:")
    assert "--size HxW" in text
    assert "VALUE" not in text


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["restor"], "did you mean restore?"),
        (["weights", "lst"], "did you mean `mimo weights list`?"),
        (["bench", "sesion"], "did you mean `mimo bench session`?"),
        (["restore", "a", "b", "--qualty", "3"], "did you mean --quality?"),
        (["restore"], "usage: mimo restore SOURCE OUTPUT [options]"),
    ],
)
def test_what_is_mistyped_is_told_with_what_was_meant(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == USAGE
    assert said in capsys.readouterr().err
