"""Cuts a stream of text into blocks that end where a record ends, also where quoted fields hold line breaks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from perdure.errors import SchemaBroken

LONGEST = 16 << 20
"""Bytes that one record may have; a quote that is never closed would otherwise swallow the rest of the source."""

_CLOSING = re.compile(rb'[^"]*+(?:""[^"]*+)*+"')  # a doubled quote is a quote within the field


def blocks(chunks: Iterable[bytes], size: int, *, delimiter: str, quoting: bool) -> Iterator[bytes]:
    """The same bytes in blocks of whole records: each the shortest with at least *size* bytes, the last one with what is left.

    A quote opens a field only at its start; in the middle of a field it is a character. Raises SchemaBroken.
    """
    cutter = _Cutter(size, delimiter.encode() if quoting else None)
    rest = b""
    for chunk in chunks:
        rest += chunk
        start = 0
        while (end := cutter.find(rest, start)) is not None:
            yield rest[start:end]
            start = end
        rest = rest[start:]
        cutter.shift(start)
        if len(rest) > size + LONGEST:
            raise _endless(rest, cutter)
    if rest:
        if cutter.quoted(rest):
            raise _endless(rest, cutter)
        yield rest


class _Cutter:
    """Finds the ends of blocks. Everything before ``position`` has been looked at, and no field is open there."""

    def __init__(self, size: int, delimiter: bytes | None) -> None:
        self._size = max(1, size)
        self.position = 0
        self._opening = re.compile(rb"(?:\A|(?<=[\n\r" + re.escape(delimiter) + rb']))"') if delimiter else None

    def find(self, text: bytes, start: int) -> int | None:
        """The end of the block that begins at *start*, or None where more bytes are needed to tell."""
        self.position = max(self.position, start)
        while True:
            newline = text.find(b"\n", max(self.position, start + self._size - 1))
            quote = self._opening and self._opening.search(text, self.position, newline + 1 if newline >= 0 else len(text))
            if not quote:
                self.position = newline + 1 if newline >= 0 else len(text)
                return newline + 1 if newline >= 0 else None
            self.position = quote.start()
            closing = _CLOSING.match(text, quote.end())
            if closing is None or closing.end() == len(text):  # perhaps a doubled quote
                return None
            self.position = closing.end()

    def shift(self, by: int) -> None:
        """The text lost its first *by* bytes."""
        self.position -= by

    def quoted(self, text: bytes) -> bool:
        """Whether *text*, after which nothing comes, ends within a quoted field."""
        quote = self._opening and self._opening.search(text, self.position)
        return bool(quote) and _CLOSING.match(text, quote.end()) is None  # type: ignore[union-attr]


def _endless(rest: bytes, cutter: _Cutter) -> SchemaBroken:
    start = rest[cutter.position :][:60] if cutter.quoted(rest) else rest[:60]
    shown = start.decode(errors="replace")
    if cutter.quoted(rest):
        return SchemaBroken(
            f"a quoted field is never closed; it begins with {shown!r}",
            field="data.source.quoting",
            remedy="mend the quote, or set data.source.quoting: false where quotes are ordinary characters",
        )
    return SchemaBroken(
        f"a record has more than {LONGEST >> 20} MiB; it begins with {shown!r}",
        field="data.source.format",
        remedy="see that the source is text with one record a line",
    )
