"""Glob patterns over stores: `*`, `?`, `[...]` within a segment, `**` across segments."""

import re
from collections.abc import Iterator
from functools import lru_cache

from mimo_core.storage import Entry, Store

_MAGIC = re.compile(r"[*?\[]")


def has_magic(text: str) -> bool:
    """Return whether the text holds a character that globs give a meaning to."""
    return _MAGIC.search(text) is not None


@lru_cache(maxsize=256)
def translate(pattern: str) -> re.Pattern[str]:
    """Return the regular expression for a pattern over whole keys."""
    parts: list[str] = []
    for segment in pattern.split("/"):
        if segment == "**":
            parts.append("(?:[^/]+/)*")
        else:
            parts.append(_segment(segment) + "/")
    expression = "".join(parts)
    # The last segment has no slash behind it; behind a final ** comes any name.
    expression = expression + "[^/]+" if pattern.split("/")[-1] == "**" else expression[:-1]
    return re.compile(expression, re.DOTALL)


def _segment(pattern: str) -> str:
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == "*":
            parts.append("[^/]*")
        elif letter == "?":
            parts.append("[^/]")
        elif letter == "[" and (end := pattern.find("]", at + 1 + pattern.startswith("!", at))) > 0:
            inside = pattern[at:end]
            negated = inside.startswith("!")
            body = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[1:] if negated else inside)
            parts.append(f"[^/{body}]" if negated else f"(?!/)[{body}]")
            at = end + 1
        else:
            parts.append(re.escape(letter))
    return "".join(parts)


def matches(pattern: str, key: str) -> bool:
    """Return whether a pattern matches: one without `/` the key's name, one with `/` the whole key."""
    text = key if "/" in pattern else key.rpartition("/")[2]
    return translate(pattern).fullmatch(text) is not None


def matches_any(patterns: tuple[str, ...], key: str) -> bool:
    """Return whether any of the patterns matches."""
    return any(matches(pattern, key) for pattern in patterns)


class Glob:
    """A path or URL with glob characters.

    Attributes:
        root: the folder before the first segment with such a character; keys are relative to it.
        pattern: the rest.
        extension: the literal extension that the pattern ends in, lower-case with its dot, or empty.
    """

    def __init__(self, pattern: str) -> None:
        """Split the pattern where the magic begins."""
        scheme, mark, path = pattern.rpartition("://")
        segments = path.split("/")
        first = next(at for at, segment in enumerate(segments) if has_magic(segment))
        self.root = scheme + mark + ("/".join(segments[:first]) or "/")
        self.pattern = "/".join(segments[first:])
        found = re.search(r"\.[^*?\[\]./]+$", self.pattern)
        self.extension = found.group().lower() if found else ""

    def walk(self, store: Store) -> Iterator[Entry]:
        """Yield the matching files of `store` (the root), in order; only folders that can match are listed."""
        yield from _walk(store, "", self.pattern.split("/"))


def _walk(store: Store, folder: str, segments: list[str]) -> Iterator[Entry]:
    prefix = f"{folder}/" if folder else ""
    head, *rest = segments
    if head == "**":
        expression = translate("/".join(segments))
        for entry in store.list(folder):
            if expression.fullmatch(entry.key[len(prefix) :]):
                yield entry
    elif not has_magic(head) and rest:
        yield from _walk(store, prefix + head, rest)
    else:
        expression = translate(head)
        for entry in store.list(folder, recursive=False, folders=bool(rest)):
            name = entry.key[len(prefix) :]
            if name.endswith("/"):
                if expression.fullmatch(name[:-1]):
                    yield from _walk(store, entry.key[:-1], rest)
            elif not rest and expression.fullmatch(name):
                yield entry
