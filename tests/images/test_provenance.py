"""The mark in an output's XMP: readable by others, beside whatever the packet held."""

import io
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from inprocess import run
from pictures import XMP, scene, with_pillow, with_tifffile
from PIL import Image as Pillow

from mimo_core.images.codecs import Image, decode, encode
from mimo_core.images.containers import Metadata
from mimo_core.images.provenance import marked

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
OWN = "{urn:mimo-restore:1.0/}"
ENHANCED = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
OTHERS = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description r:about="uuid:1" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>sea &amp; sky</dc:title></r:Description></r:RDF>'
    "</x:xmpmeta><?xpacket end='w'?>"
).encode()


def with_mark(image: Image, container: str, method: str = 'mimo-unet-lite "x" <1/2> & more') -> Image:
    return marked(image, container, software="mimo-restore 1", method=method, recipe="abc")


def image(xmp: bytes) -> Image:
    return Image(scene(), Metadata(xmp=xmp), "png", False, True)


def descriptions(xmp: bytes) -> list[dict[str, str]]:
    text = xmp.decode().partition("?>")[2].rpartition("<?")[0]
    return [dict(element.attrib) for element in ET.fromstring(text).iter(f"{RDF}Description")]


def test_a_mark_without_any_packet() -> None:
    (found,) = descriptions(with_mark(image(b""), "png").metadata.xmp)
    assert found[IPTC] == ENHANCED
    assert found[f"{OWN}software"] == "mimo-restore 1"
    assert found[f"{OWN}method"] == 'mimo-unet-lite "x" <1/2> & more'
    assert found[f"{OWN}recipe"] == "abc"


def test_what_a_packet_holds_stays_and_a_mark_comes_once() -> None:
    once = with_mark(image(OTHERS), "png")
    assert b"sea &amp; sky" in once.metadata.xmp
    others, own = descriptions(once.metadata.xmp)
    assert {one[f"{RDF}about"] for one in (others, own)} == {"uuid:1"}
    again = with_mark(once, "png", "another")
    assert [one.get(f"{OWN}method") for one in descriptions(again.metadata.xmp)] == [None, "another"]
    assert with_mark(again, "png", "another").metadata.xmp == again.metadata.xmp
    assert once.lost == ()


def test_a_source_type_that_is_there_stays() -> None:
    generated = OTHERS.replace(
        b'r:about="uuid:1"',
        b'r:about="uuid:1" xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" e:DigitalSourceType="generated"',
    )
    found = descriptions(with_mark(image(generated), "png").metadata.xmp)
    assert [one.get(IPTC) for one in found] == ["generated", None]


def test_a_packet_that_is_no_rdf_is_replaced_and_named() -> None:
    done = with_mark(image(XMP), "png")
    assert done.lost == ("damaged XMP",)
    assert len(descriptions(done.metadata.xmp)) == 1


@pytest.mark.parametrize("container", ["jpg", "png", "webp", "tiff"])
def test_others_find_it(container: str) -> None:
    data = encode(with_mark(image(OTHERS), container), container)
    with Pillow.open(io.BytesIO(data)) as seen:
        seen.load()
        text = b"".join(value if isinstance(value, bytes) else str(value).encode() for value in seen.info.values())
        text += str(getattr(seen, "tag_v2", "")).encode()
    assert b"algorithmicallyEnhanced" in text
    assert b"sea &amp; sky" in text


def test_containers_without_xmp_stay_as_they_are() -> None:
    assert with_mark(image(b""), "bmp").metadata.xmp == b""
    assert encode(with_mark(image(b""), "bmp"), "bmp") == encode(image(b""), "bmp")


def test_a_run_marks_every_page_where_it_is_asked_to(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.jpg").write_bytes(with_pillow(scene(), "JPEG"))
    (source / "b.tif").write_bytes(with_tifffile(scene(), photometric="rgb"))
    (source / "c.bmp").write_bytes(with_pillow(scene(), "BMP"))
    done = run(source, tmp_path / "out", engine="identity", mark=True)
    for key in ("a.jpg", "b.tif"):
        (found,) = descriptions(decode(done.output(key)).metadata.xmp)
        assert found[f"{OWN}recipe"] == done.recipe.fingerprint()
    assert {record.lost for record in done.records.values()} == {None}
    plain = run(source, tmp_path / "plain", engine="identity")
    assert decode(plain.output("a.jpg")).metadata.xmp == b""
    pages = replace(image(b""), more=(image(b""),))
    assert all(page.metadata.xmp for page in with_mark(pages, "tiff").pages)
