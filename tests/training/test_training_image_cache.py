"""Images stay in memory as far as they fit and are read again beyond that."""

from mimo_core.training.image_cache import ImageCache


def test_what_fits_is_read_once_and_the_rest_again() -> None:
    read: list[str] = []

    def load(name: str) -> bytes:
        read.append(name)
        return name.encode() * 10

    cache = ImageCache(["a", "b", "c"], load, len, memory=25)
    for _ in range(3):
        assert [cache[number] for number in range(len(cache))] == [b"a" * 10, b"b" * 10, b"c" * 10]
    assert read == ["a", "b", "c", "c", "c"]
