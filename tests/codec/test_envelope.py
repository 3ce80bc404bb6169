import zlib

import pytest

from minicomp.codec.envelope import CRC_EACH_FROM, Opened, seal
from minicomp.errors import FormatError

SMALL, LARGE = [b"first", b"", b"third" * 40], [b"a" * CRC_EACH_FROM, b"b"]


def checked(data):
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def read(data, n, kind="model"):
    opened = Opened(data, kind)
    sections = [opened.section(f"section {i}") for i in range(n)]
    opened.finish()
    return opened.header, sections


@pytest.mark.parametrize("sections", [SMALL, LARGE, []])
@pytest.mark.parametrize("kind", ["model", "program"])
def test_what_is_sealed_is_opened(sections, kind):
    data = seal(kind, b"header", sections)
    assert read(data, len(sections), kind) == (b"header", sections)
    assert seal(kind, b"header", sections) == data


def test_bytes_by_hand():
    # magic, version 2 kind 0, lengths 2 and 200 = 0b1 1001000, checksum
    data = seal("model", b"hh", [b"x" * 200])
    assert data[:-4] == b"MCZ\x20\x02hh\xc8\x01" + b"x" * 200
    assert data[-4:] == zlib.crc32(data[:-4]).to_bytes(4, "little")


def test_each_section_of_a_large_file_has_a_checksum():
    data = bytearray(seal("model", b"header", LARGE))
    assert data[3] & 1 and not seal("model", b"header", SMALL)[3] & 1
    data[-10] ^= 1  # in the last section's checksum or its text
    with pytest.raises(FormatError, match="section 1: the checksum differs"):
        read(bytes(data), 2)
    with pytest.raises(FormatError, match="section 1: the checksum differs"):
        read(checked(bytes(data)), 2)
    data = bytearray(seal("model", b"header", LARGE))
    data[6] ^= 1  # in the header, which only the whole file's checksum covers
    with pytest.raises(FormatError, match="^the checksum differs"):
        read(bytes(data), 2)


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda d: b"", "start with MCZ"),
        (lambda d: b"MCZ\x20\0\0\0", "start with MCZ"),
        (lambda d: b"XYZ" + d[3:], "start with MCZ"),
        (lambda d: d[:3] + b"\x00" + d[4:], "version must be 2, got 0"),
        (lambda d: d[:3] + b"\x22" + d[4:], "a model is wanted, got a program"),
        (lambda d: d[:-1], "checksum differs"),
        (lambda d: checked(d[:4] + b"\xff\x01" + d[5:]), "header: 255 bytes are declared"),
        (
            lambda d: checked(d[:4] + b"\x86\x00" + d[5:]),
            "header: the length is damaged",
        ),  # 6, spelt long
        (lambda d: checked(d[:4] + b"\xff" * 6 + d[5:]), "header: the length is damaged"),
        (lambda d: checked(d[:-4] + b"more" + d[-4:]), "bytes too many after the last section"),
        (lambda d: checked(d[:11] + d[-4:]), "section 0: the length is damaged"),
    ],
)
def test_damaged_envelopes_are_refused(change, match):
    data = seal("model", b"header", SMALL)
    with pytest.raises(FormatError, match=match):
        read(change(data), 3)
