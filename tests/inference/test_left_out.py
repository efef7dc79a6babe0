"""Images that would gain little are left out: named in the records, copied where that is asked for, and no fault."""

import hashlib
import re
from pathlib import Path

import cv2
import inprocess
import pytest
from finished import ROOT, finish

from mimo_core.cli.main import main
from mimo_core.runs.config import RestoreConfig
from mimo_core.runs.recipe import given_fields
from mimo_core.runs.record import Record
from mimo_core.runs.statistics import Statistics
from mimo_core.triage.predictor import predictor

SAMPLES = ROOT / "samples"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blurred samples beside sharp ones, a small image and a broken one."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "blurred").mkdir()
    for side in ("blurred", "sharp"):
        for name in ("street.jpg", "window.png"):
            (folder / "blurred" / f"{side}-{name}").write_bytes((SAMPLES / side / name).read_bytes())
    cv2.imwrite(str(folder / "blurred" / "small.png"), cv2.imread(str(SAMPLES / "sharp" / "street.jpg"))[:48, :48])
    (folder / "blurred" / "broken.png").write_bytes(b"no image")
    return folder


def choices(**options: object) -> dict[str, object]:
    config = RestoreConfig.model_validate({"source": "in", "output": "out", **options})
    names = ("minimum_gain", "skip_sharp", "others", "predictor_sha256", "format")
    return {name: value for name, value in given_fields(config).items() if name in names}


def test_sharp_images_are_left_out_and_the_others_restored_as_ever(mixed: Path, tmp_path: Path) -> None:
    plain = finish(mixed, tmp_path / "plain", reference=False)
    done = finish(mixed, tmp_path / "some", reference=False, **choices(skip_sharp=True))
    assert done.records["broken.png"].status == "failed"
    for name in ("blurred-street.jpg", "blurred-window.png", "small.png"):
        assert done.output(name) == plain.output(name), "what is restored is not changed by the look"
    assert done.records["blurred-street.jpg"].predicted_gain is not None
    assert done.records["small.png"].predicted_gain is None, "too small to be judged, so restored"
    record = done.records["sharp-street.jpg"]
    assert (record.status, record.error_kind, record.output) == ("skipped", "little_to_gain", None)
    assert (record.error or "").startswith("no blur is seen; predicted to gain +")
    assert (record.width, record.height, record.bytes_in) == (640, 400, (SAMPLES / "sharp/street.jpg").stat().st_size)
    assert not (tmp_path / "some" / "images" / "sharp-street.jpg").exists()
    assert plain.recipe.fingerprint() != done.recipe.fingerprint()


def test_what_is_copied_is_the_file_itself_and_is_verified(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = finish(mixed, tmp_path / "run", reference=False, **choices(minimum_gain=0.6, others="copy"), mark=True)
    record = done.records["sharp-street.jpg"]
    original = (SAMPLES / "sharp" / "street.jpg").read_bytes()
    assert (record.status, record.error_kind) == ("skipped", "little_to_gain")
    assert (record.error or "").endswith("dB, less than 0.6")
    assert done.output("sharp-street.jpg") == original
    assert record.output_sha256 == record.source_sha256 == hashlib.sha256(original).hexdigest()
    assert main(["verify", str(tmp_path / "run")]) == 0
    assert "0 defects" in capsys.readouterr().out
    (tmp_path / "run" / "images" / "sharp-street.jpg").write_bytes(b"other")
    assert main(["verify", str(tmp_path / "run")]) == 1
    assert "sharp-street.jpg: its output images/sharp-street.jpg is not the file" in capsys.readouterr().out


def test_a_copy_in_another_format_holds_the_same_pixels(mixed: Path, tmp_path: Path) -> None:
    done = finish(mixed, tmp_path / "run", reference=False, **choices(minimum_gain=0.6, others="copy", format="png"))
    record = done.records["sharp-street.jpg"]
    assert (record.output, record.output_format) == ("images/sharp-street.png", "png")
    before, after = (str(path) for path in (SAMPLES / "sharp" / "street.jpg", tmp_path / "run" / str(record.output)))
    assert (cv2.imread(before) == cv2.imread(after)).all()


def test_status_and_report_say_how_much_was_left_out(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for file in (mixed / "blurred").iterdir():
        if file.name != "broken.png":
            (source / file.name).write_bytes(file.read_bytes())
    source.rename(tmp_path / "blurred")
    finish(tmp_path, tmp_path / "run", reference=False, **choices(skip_sharp=True))
    # Left out on purpose: no reason for another exit code, and nothing that failed.
    assert main(["status", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    assert re.search("^left out +1 *$", told, re.MULTILINE)
    assert "skipped" not in told
    assert "sharp-street.jpg" not in told
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "of computing" in page
    assert "predicted to gain +" in page


def test_what_was_left_out_adds_up() -> None:
    out = [
        Record(f"{n}.png", "/in", "skipped", error_kind="little_to_gain", width=100, height=100, predicted_gain=0.1 * n)
        for n in range(3)
    ]
    others = [
        Record("a.png", "/in", "restored", width=200, height=100, infer_ms=4000.0),
        Record("b.png", "/in", "skipped", error_kind="reference_missing"),
        Record("c.png", "/in", "failed", error_kind="empty"),
    ]
    total = Statistics.of(out).merge(Statistics.from_json(Statistics.of(others).to_json()))
    assert (total.images, total.skipped, total.left_out, total.amiss) == (6, 4, 3, 2)
    assert [one.key for one in total.first_failures] == ["b.png", "c.png"]
    assert total.left_out_told() == "3 images, predicted to gain +0.10 dB each; saved about 6 s of computing"
    assert Statistics.of(others).left_out_told() == ""


def test_others_need_something_that_leaves_them_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restore", "in", "out", "--others", "copy"]) == 2
    assert "--others goes with --minimum-gain or --skip-sharp" in capsys.readouterr().err


def test_the_predictor_was_fitted_to_the_weights_that_are_shipped() -> None:
    from mimo_core.models.shipped import shipped

    (card,) = [one.card for one in shipped() if one.name == "mimo-unet-lite"]
    assert predictor().weights_sha256 == card.sha256, "fit it anew: recipes/triage.py"
    assert inprocess.recipe_of().predictor_sha256 == ""
