"""A fast look at images: what it says of sharp and blurred ones, and the list that `mimo triage` makes."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import rgb
from processes import ROOT

from mimo_core.cli.main import main
from mimo_core.datasets.imagelist import list_images
from mimo_core.training.blur import Shake, photograph
from mimo_core.triage.predictor import predictor

SAMPLES = ROOT / "samples"
NAMES = [path.name for path in sorted((SAMPLES / "sharp").iterdir())]


@pytest.mark.parametrize("name", NAMES)
def test_the_blurred_one_of_two_is_expected_to_gain_more(name: str) -> None:
    sharp, blurred = (predictor().outlook(rgb(SAMPLES / side / name)) for side in ("sharp", "blurred"))
    assert sharp is not None
    assert blurred is not None
    assert blurred.gain > sharp.gain + 0.5
    assert blurred.kind == "motion"
    assert blurred.low < blurred.gain < blurred.high


def test_the_extent_grows_with_the_blur() -> None:
    sharp = rgb(SAMPLES / "sharp" / "street.jpg")
    extents = []
    for extent in (3.0, 8.0, 20.0):
        shaken = photograph(sharp, np.random.default_rng(5), Shake(), extent=extent)
        outlook = predictor().outlook(shaken)
        assert outlook is not None
        extents.append(outlook.extent)
    assert extents == sorted(extents)
    assert 0.5 < extents[0] < 6
    assert 10 < extents[2] < 40


def test_depth_and_size_hardly_matter_and_odd_images_are_borne() -> None:
    image = rgb(SAMPLES / "blurred" / "street.jpg")
    eight, sixteen = (predictor().outlook(one) for one in (image, image.astype(np.uint16) * np.uint16(257)))
    assert eight == sixteen
    assert predictor().outlook(image[:63]) is None
    for odd in (np.zeros((64, 900, 3), np.uint8), np.full((3000, 70, 3), 255, np.uint8)):
        outlook = predictor().outlook(odd)
        assert outlook is not None
        assert np.isfinite([outlook.gain, outlook.low, outlook.high, outlook.extent]).all()
    noise = predictor().outlook(np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8))
    assert noise is not None
    assert noise.extent < 100


def test_the_list_of_a_triage_is_a_list_to_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    for side in ("blurred", "sharp"):
        (source / side).mkdir(parents=True)
        (source / side / "street.jpg").write_bytes((SAMPLES / side / "street.jpg").read_bytes())
    (source / "bad.png").write_bytes(b"no image")
    cv2.imwrite(str(source / "tiny.png"), np.zeros((9, 9, 3), np.uint8))
    assert main(["triage", str(source), str(tmp_path / "list.parquet")]) == 3
    told = capsys.readouterr().out
    assert told.startswith("4 images in ")
    assert "1 could not be looked at" in told
    assert "1 too small" in told
    rows = {row["key"]: row for row in pq.read_table(tmp_path / "list.parquet").to_pylist()}
    assert rows["blurred/street.jpg"]["gain"] > 1 > rows["sharp/street.jpg"]["gain"]
    assert (rows["blurred/street.jpg"]["blur"], rows["sharp/street.jpg"]["blur"]) == ("motion", "none")
    assert rows["bad.png"]["error"].startswith("not_an_image: ")
    assert rows["tiny.png"]["gain"] is rows["tiny.png"]["error"] is None
    listed = list(list_images(str(tmp_path / "list.parquet")))
    assert {(one.key, one.source) for one in listed} == {(key, str(source / key)) for key in rows}


def test_an_output_that_is_no_parquet_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triage", str(tmp_path), str(tmp_path / "list.csv")]) == 2
    assert "expected a file named .parquet" in capsys.readouterr().err


def test_a_list_that_is_there_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.parquet"
    pq.write_table(pa.table({"source": [str(SAMPLES / "blurred" / "street.jpg")], "note": ["mine"]}), mine)
    before = mine.read_bytes()
    assert main(["triage", str(mine), str(mine)]) == 2
    assert "mine.parquet is there already" in capsys.readouterr().err
    assert mine.read_bytes() == before


def test_no_signature_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = partial(SimpleHTTPRequestHandler, directory=SAMPLES)
    with ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/blurred/street.jpg"
        listed = tmp_path / "list.csv"
        listed.write_text(f"source,key\n{address}?X-Amz-Signature=deadbeef,a.jpg\n")
        assert main(["triage", str(listed), str(tmp_path / "list.parquet")]) == 0
        server.shutdown()
    (row,) = pq.read_table(tmp_path / "list.parquet").to_pylist()
    assert row["source"] == address
    assert row["gain"] > 1
    assert "1 link written without signature" in capsys.readouterr().out
    assert b"deadbeef" not in (tmp_path / "list.parquet").read_bytes()
