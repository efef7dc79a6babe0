"""A mark in an image's XMP that says that it was enhanced by software, and by what."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from mimo_core.images.fitting import holds_xmp

if TYPE_CHECKING:
    from mimo_core.images.codecs import Image

_IPTC = 'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
_ENHANCED = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
"""IPTC's word for a picture that an algorithm improved without generating content
(cv.iptc.org/newscodes/digitalsourcetype)."""
_OWN = "urn:mimo-restore:1.0/"
_OWN_ELEMENT = re.compile(rb"<[\w.-]+:Description[^<>]*" + re.escape(_OWN.encode()) + rb"[^<>]*/>\s*")
_END = re.compile(rb"</([A-Za-z_][\w.-]*):RDF\s*>")
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


def marked(image: Image, container: str, *, software: str, method: str, recipe: str) -> Image:
    """Return the image with a mark in its XMP, and in that of its further pages, where the container holds XMP.

    What the packet holds stays; a mark of an earlier restoration gives way, and IPTC's digital source type is set only
    where there is none. A packet that is no RDF is replaced, and named as lost.

    Args:
        image: what is written.
        container: as what.
        software: name and version of this program.
        method: the network and how it was used, in words.
        recipe: the fingerprint of every choice.
    """
    if not holds_xmp(container):
        return image
    xmp = image.metadata.xmp
    own = f"xmlns:mimo={quoteattr(_OWN)} mimo:software={quoteattr(software)} mimo:method={quoteattr(method)}"
    words = f"{own} mimo:recipe={quoteattr(recipe)}"
    packet, kept = _with(xmp, words)
    more = tuple(marked(page, container, software=software, method=method, recipe=recipe) for page in image.more)
    lost = image.lost if kept else (*image.lost, "damaged XMP")
    return replace(image, metadata=replace(image.metadata, xmp=packet), lost=lost, more=more)


def _with(xmp: bytes, words: str) -> tuple[bytes, bool]:
    """Return the packet with an element of these attributes, and whether what was there is still there."""
    xmp = _OWN_ELEMENT.sub(b"", xmp)
    ends = list(_END.finditer(xmp))
    if not ends:
        element = _element("rdf", '""', words, b"")
        packet = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">{element}</rdf:RDF></x:xmpmeta>'
        begin = '<?xpacket begin="\N{ZERO WIDTH NO-BREAK SPACE}" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        return f'{begin}{packet}<?xpacket end="w"?>'.encode(), not xmp.strip()
    end = ends[-1]
    prefix = end[1].decode("ascii")
    about = re.search(rb":about=(\"[^\"<]*\"|'[^'<]*')", xmp)
    element = _element(prefix, about[1].decode("utf-8", "replace") if about is not None else '""', words, xmp)
    return xmp[: end.start()] + element.encode() + xmp[end.start() :], True


def _element(prefix: str, about: str, words: str, xmp: bytes) -> str:
    kind = "" if b"DigitalSourceType" in xmp else f' {_IPTC} Iptc4xmpExt:DigitalSourceType="{_ENHANCED}"'
    return f"<{prefix}:Description {prefix}:about={about}{kind} {words}/>"
