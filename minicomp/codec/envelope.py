"""The envelope of an .mcz file: its kind, where its sections begin, and whether they are whole.

    "MCZ"                       magic
    version << 4 | dictionary << 3 | kind << 1 | each       one byte, see VERSION and KINDS
    length, header              JSON, deflated with a dictionary (codec/header.py)
    length, section [, crc]     as many as the header implies
    crc                         CRC-32 of all before it, least significant byte first

Lengths are in bytes, 7 bits a byte, low bits first, the top bit says that more follow. Files with
64 KiB of sections or more have the bit `each` set and a CRC-32 after every section, to tell which
one is damaged.
"""

from __future__ import annotations

import zlib

from ..errors import FormatError

MAGIC, VERSION = b"MCZ", 2
KINDS = {"model": 0, "program": 1}
OTHERS = {  # what to do with a file of another version
    1: "minicomp 0.1.0 wrote this file and can still read it: export its weights there with "
    "save_safetensors, or compress the model again with this version",
}
CRC_BYTES = 4
CRC_EACH_FROM = 2**16  # bytes of sections


def seal(kind: str, header: bytes, sections: list[bytes], dictionary: int = 0) -> bytes:
    """Returns the bytes of a file."""
    each = sum(map(len, sections)) >= CRC_EACH_FROM
    out = [
        MAGIC,
        bytes([VERSION << 4 | dictionary << 3 | KINDS[kind] << 1 | each]),
        _length(len(header)),
        header,
    ]
    for section in sections:
        out += [_length(len(section)), section, _crc(section) if each else b""]
    data = b"".join(out)
    return data + _crc(data)


def kind_of(data: bytes) -> str:
    """Returns the kind that a file says it is of; "model" for what is none."""
    number = data[3] >> 1 & 3 if len(data) > 3 else 0
    return next((kind for kind, n in KINDS.items() if n == number), "model")


class Opened:
    """A file being read; every method raises FormatError where the file breaks the rules.

    data : the whole file        kind : what it must be        header : its header, still deflated
    dictionary : the number of that which deflates the header
    Header and sections are views of the file, not copies.
    """

    def __init__(self, data: bytes, kind: str):
        data = memoryview(data)
        if len(data) < len(MAGIC) + 2 + CRC_BYTES or data[:3] != MAGIC:
            raise FormatError("not an .mcz file: it must start with MCZ")
        version, found, self._each = data[3] >> 4, data[3] >> 1 & 3, data[3] & 1
        self.dictionary = data[3] >> 3 & 1
        if version != VERSION:
            why = "a later minicomp may read it" if version > VERSION else "no minicomp wrote it"
            why = OTHERS.get(version, why)
            raise FormatError(f"version must be {VERSION}, got {version}: {why}")
        if found != KINDS[kind]:
            got = next((f"a {name}" for name, n in KINDS.items() if n == found), f"kind {found}")
            raise FormatError(f"a {kind} is wanted, got {got}")
        self._data, self._at, self._end = data, 4, len(data) - CRC_BYTES
        if not self._each:
            self._check_whole()
        self.header = self._take("header")

    def section(self, name: str) -> memoryview:
        """Returns the next section; `name` says in an error which one it is."""
        section = self._take(name)
        if self._each:
            if self._data[self._at : self._at + CRC_BYTES] != _crc(section):
                raise FormatError(f"{name}: the checksum differs, the file is damaged")
            self._at += CRC_BYTES
        return section

    def finish(self) -> None:
        """Checks that nothing is left."""
        if self._at != self._end:
            raise FormatError(f"{abs(self._end - self._at)} bytes too many after the last section")
        self._check_whole()

    def _check_whole(self) -> None:
        if self._data[self._end :] != _crc(self._data[: self._end]):
            raise FormatError("the checksum differs, the file is damaged")

    def _take(self, name: str) -> memoryview:
        n = 0
        for shift in range(0, 42, 7):
            if self._at >= self._end:
                break
            byte = self._data[self._at]
            self._at += 1
            n |= (byte & 127) << shift
            if byte == 0 and shift:
                break  # a length in more bytes than it needs
            if byte < 128:
                if n > self._end - self._at:
                    raise FormatError(
                        f"{name}: {n} bytes are declared, {self._end - self._at} are left"
                    )
                self._at += n
                return self._data[self._at - n : self._at]
        raise FormatError(f"{name}: the length is damaged")


def _length(n: int) -> bytes:
    out = bytearray()
    while True:
        out.append(n & 127 | (n > 127) << 7)
        n >>= 7
        if not n:
            return bytes(out)


def _crc(data: bytes | memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(CRC_BYTES, "little")
