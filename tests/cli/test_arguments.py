"""The command line and the YAML file: one set of options, the command line wins, and every refusal names the option."""

from pathlib import Path

import pytest

from mimo_core.cli.arguments import parse
from mimo_core.cli.main import USAGE, main
from mimo_core.cli.report import ReportConfig
from mimo_core.errors import UsageError
from mimo_core.runs.config import EvaluateConfig, RestoreConfig


def parsed(*argv: str) -> RestoreConfig:
    return parse(RestoreConfig, argv, "mimo restore")


def in_file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return str(path)


def test_only_source_and_output_are_needed() -> None:
    config = parsed("in", "out")
    assert config == RestoreConfig(source="in", output="out")
    assert (config.mode, config.workers, config.size, config.tile, config.overlap) == (
        "resume",
        "auto",
        "native",
        "auto",
        32,
    )


def test_an_argument_may_be_several() -> None:
    config = parse(ReportConfig, ["one", "two", "--pictures", "2"], "mimo report")
    assert (config.output, config.pictures) == (("one", "two"), 2)
    with pytest.raises(UsageError, match="OUTPUT is missing"):
        parse(ReportConfig, [], "mimo report")


def test_every_option_of_the_contract_is_read() -> None:
    config = parsed(
        *("s3://b/in", "s3://b/out", "--reference", "ref", "--weights", "w.pkl", "--model", "mimo-unet-plus"),
        *("--engine", "torch", "--device", "cuda:1", "--precision", "bf16", "--size", "360x640", "--tile", "256x512"),
        *("--overlap", "16", "--batch", "4", "--format", "jpg", "--quality", "90", "--workers", "2:8"),
        *("--shard-size", "128", "--mode", "retry-failed", "--max-failed", "1%", "--limit", "10", "--dry-run"),
        *("--include", "*.dat", "--include", "x/*", "--interpolation", "bilinear", "--timeout", "7.5", "--allow-mixed"),
    )
    assert config.model_dump() == {
        **RestoreConfig(source="s3://b/in", output="s3://b/out").model_dump(),
        "reference": "ref",
        "weights": "w.pkl",
        "model": "mimo-unet-plus",
        "engine": "torch",
        "device": "cuda:1",
        "precision": "bf16",
        "size": "360x640",
        "tile": "256x512",
        "overlap": 16,
        "batch": "4",
        "format": "jpg",
        "quality": 90,
        "workers": "2:8",
        "shard_size": 128,
        "mode": "retry-failed",
        "max_failed": "1%",
        "limit": 10,
        "dry_run": True,
        "include": ("*.dat", "x/*"),
        "interpolation": "bilinear",
        "timeout": 7.5,
        "allow_mixed": True,
    }


def test_a_file_holds_the_same_names_and_the_command_line_wins(tmp_path: Path) -> None:
    file = in_file(
        tmp_path,
        "source: in\noutput: out\nbatch: 4\nmax-failed: 5\nshard_size: 9\ndry_run: yes\n"
        "include: ['*.dat', '*.raw']\nprecision: fp16\n",
    )
    config = parsed("--config", file)
    assert (config.source, config.output, config.batch, config.max_failed) == ("in", "out", "4", "5")
    assert (config.shard_size, config.dry_run, config.include) == (9, True, ("*.dat", "*.raw"))
    config = parsed(
        "other", "--config", file, "--precision", "fp32", "--no-dry-run", "--include", "*.x", "--batch", "auto"
    )
    assert (config.source, config.output, config.precision, config.dry_run) == ("other", "out", "fp32", False)
    assert (config.include, config.batch, config.shard_size) == (("*.x",), "auto", 9)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("workers: 1:8", "workers", "1:8"),
        ("workers: 12", "workers", "12"),
        ("size: 360x640", "size", "360x640"),
        ("size: native", "size", "native"),
        ("tile: none", "tile", "none"),
        ("max_failed: 1%", "max_failed", "1%"),
        ("max_failed: 0.5%", "max_failed", "0.5%"),
        ("include: '*.dat'", "include", ("*.dat",)),
        ("timeout: 2.5", "timeout", 2.5),
        ("timeout: 60", "timeout", 60.0),
        ("reference: null", "reference", None),
        ("quality:", "quality", None),
        ("allow-mixed: true", "allow_mixed", True),
    ],
)
def test_values_in_a_file_mean_what_they_mean_on_the_command_line(
    tmp_path: Path, text: str, name: str, value: object
) -> None:
    assert getattr(parsed("in", "out", "--config", in_file(tmp_path, text)), name) == value


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "SOURCE is missing; OUTPUT is missing"),
        (["in"], "OUTPUT is missing"),
        (["in", "out", "--size", "big"], "--size: expected HEIGHTxWIDTH in pixels such as 360x640, found 'big'"),
        (["in", "out", "--engine", "gpu"], "--engine: expected auto, identity, openvino, torch, vacc, found 'gpu'"),
        (["in", "out", "--overlap", "-3"], "--overlap: input should be greater than or equal to 0, found '-3'"),
        (["in", "out", "--limit", "few"], "--limit: expected a whole number"),
        (["in", "out", "--batch", "0", "--workers", "x"], "--batch: expected auto or a number of images of at least 1"),
        (["in", "out", "--batch", "0", "--workers", "x"], "; --workers: expected N, MIN:MAX or auto, found 'x'"),
        (["in", "out", "--config", "nowhere.yaml"], "--config nowhere.yaml: No such file or directory"),
    ],
)
def test_what_is_wrong_is_named_by_its_option_and_ends_with_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(*argv)
    assert message in str(caught.value)
    assert main(["restore", *argv]) == USAGE
    shown = capsys.readouterr().err
    assert shown.startswith("mimo restore: ")
    assert message in shown
    assert "Traceback" not in shown


def test_what_does_not_go_together_is_refused_without_telling_all_that_was_given() -> None:
    argv = ["in", "https://me:secret@host/sharp", "out", "--restored", "made", "--engine", "torch"]
    with pytest.raises(UsageError) as caught:
        parse(EvaluateConfig, argv, "mimo evaluate")
    assert str(caught.value) == "--restored scores what another tool made, so that --engine changes nothing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected names with values"),
        ("just text", "expected names with values"),
        ("batch: [1", "is not YAML"),
        ("wokers: 3", "no option is named --wokers; did you mean --workers?"),
        ("shard-sizes: 3\nxyzzy: 1", "no option is named --shard-sizes, --xyzzy; did you mean --shard-size?"),
        ("config: other.yaml", "no option is named --config"),
        ("limit: 1.5", "--limit: expected a whole number"),
        ("include: 3", "--include: input should be a valid tuple, found 3"),
        ("dry_run: perhaps", "--dry-run: input should be a valid boolean"),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed("in", "out", "--config", in_file(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--wokers", "3"], "no option is named --wokers; did you mean --workers?"),
        (["--work=3"], "no option is named --work; did you mean --workers?"),
        (["extra"], "expected SOURCE OUTPUT and found 1 argument more: extra; was the glob quoted?"),
    ],
)
def test_options_and_arguments_that_there_are_not(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed("in", "out", *argv)
    assert str(caught.value) == message


def test_an_option_without_its_value_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("in", "out", "--size")
    assert caught.value.code == USAGE
    assert "--size" in capsys.readouterr().err


def test_help_tells_every_option_with_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name in RestoreConfig.model_fields:
        assert name.upper() in text or f"--{name.replace('_', '-')}" in text
    assert "same|png|jpg|webp|tiff" in text
    assert "N% of the plan" in text


# The command itself


def test_the_command_names_its_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == USAGE
    assert main(["--help"]) == 0
    assert "restore" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mimo ")
    assert main(["restroe"]) == USAGE
    assert "no job is named 'restroe'; did you mean restore?" in capsys.readouterr().err
    assert main(["xyz"]) == USAGE
    assert "no job is named 'xyz'; there are restore" in capsys.readouterr().err


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = Path(__file__).resolve().parents[2] / "samples" / "blurred"
    out = tmp_path / "out"
    assert main(["restore", str(samples), str(out), "--engine", "identity", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "would restore 5 images" in text
    assert "window.png" in text
    assert "identity" in text
    assert "metrics: psnr,ssim\n" in text
    assert "fid_sha256: none\n" in text
    assert not out.exists()


def test_a_dry_run_says_how_many_images_have_a_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = Path(__file__).resolve().parents[2] / "samples"
    out, some = str(tmp_path / "out"), tmp_path / "some"
    some.mkdir()
    for name in ("brushes.png", "window.png"):
        (some / name).symlink_to(samples / "sharp" / name)
    for reference, said in (
        (samples / "sharp", "5 of 5 images have a reference\n"),
        (some, "2 of 5 images have a reference; without one: mountains.jpg, seeds.jpg, street.jpg\n"),
    ):
        assert (
            main(["evaluate", str(samples / "blurred"), str(reference), out, "--engine", "identity", "--dry-run"]) == 0
        )
        assert said in capsys.readouterr().out
    (tmp_path / "list.txt").write_text("sharp/1.png blur/1.png\nsharp/2.png blur/2.png\n")
    assert main(["restore", str(tmp_path / "list.txt"), out, "--engine", "identity", "--dry-run"]) == 0
    assert "0 of 2 images have a reference, 2 more by the word of a list or a web address alone\n" in (
        capsys.readouterr().out
    )
    assert main(["restore", str(samples / "blurred"), out, "--engine", "identity", "--dry-run"]) == 0
    assert "have a reference" not in capsys.readouterr().out
