# Bytes are weighed along a schema before they are parsed; here a small one, without protobuf.
from types import SimpleNamespace

import pytest
from minicomp.errors import FormatError
from minicomp.exchange.onnx_import.wire import MAX_DEPTH, MAX_FIELDS, MESSAGE, weigh


def schema():
    # message M {1: number; 2: text; 3: numbers, packed; 4: M}
    scalar, text = 3, 9
    kinds = {1: scalar, 2: text, 3: scalar, 4: 11}
    tree = SimpleNamespace()
    tree.fields_by_number = {
        n: SimpleNamespace(type=kind, TYPE_STRING=9, TYPE_BYTES=12,
                           message_type=tree if kind == 11 else None)
        for n, kind in kinds.items()}
    return tree


def field(number, data):
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def varint(n):
    return bytes([n & 127]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def nested(depth):
    return field(4, nested(depth - 1)) if depth else b"\x08\x01"


@pytest.mark.parametrize("data", [
    b"", b"\x08\x96\x01", field(2, b"text"), field(3, b"\x01\x02\x83\x01"), nested(5),
    b"\x0d\x00\x00\x00\x00", b"\x09" + bytes(8), field(9, b"unknown"), nested(MAX_DEPTH - 1),
])
def test_sound_bytes_pass(data):
    weigh(data, schema(), 10_000)


@pytest.mark.parametrize("data, message", [
    (b"\x08", "does not end"), (b"\x08" + b"\x80" * 11, "does not end"),
    (b"\x12\x05ab", "a field of 5 bytes is cut off; 2 are left"), (b"\x0b", "type 3"),
    (b"\x0d\x00", "cut off"), (field(4, b"\x12\x05ab"), "cut off"),
    (field(4, b"\x12\x01") + b"a", "cut off"),  # which ends where its message does
    (nested(MAX_DEPTH), "messages in one another"),
])
def test_malformed_bytes_are_refused(data, message):
    with pytest.raises(FormatError, match=message):
        weigh(data, schema(), 10_000)


def test_what_would_take_more_is_refused():
    for data, taken in ((field(2, b"t" * 900), 900), (field(3, b"\x01" * 100), 800),
                        (field(4, b"") * 10, 10 * MESSAGE), (b"\x08\x01" * 60, 960)):
        weigh(data, schema(), taken + 20)
        with pytest.raises(FormatError, match=f"and {taken - 1} bytes once it is read"):
            weigh(data, schema(), taken - 1)


def test_fields_are_counted():
    with pytest.raises(FormatError, match=f"at most {MAX_FIELDS} fields"):
        weigh(b"\x08\x01" * (MAX_FIELDS + 1), schema(), 2**40)
