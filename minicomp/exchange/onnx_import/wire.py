"""What a protocol buffer would become in memory, found before it is parsed.

A few bytes on the wire can declare an object of hundreds: an empty node takes two. So the bytes are
walked once, along the messages of the schema, and counted; nothing is made of them.

    field = tag, then its value        tag = number << 3 | type
    type 0 a varint, 1 eight bytes, 2 a length and that many bytes, 5 four bytes

Source: protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from ...errors import FormatError

MAX_FIELDS = 2**20  # of a file: a second of walking; a large net has some ten thousand
MAX_DEPTH = 24  # of messages in one another; a tensor of a node's attribute is at 4
MESSAGE = 256  # bytes that the object of a message takes, at most about
SCALAR = 16  # of a number that stands alone
PACKED = 8  # of one in a list, of which a byte on the wire may be one
FIXED = {1: 8, 5: 4}


def weigh(data: bytes, descriptor, max_bytes: int) -> None:
    """Raises FormatError where a message, parsed, could take more than max_bytes, has more than
    MAX_FIELDS fields or MAX_DEPTH messages in one another, or is malformed.

    descriptor : the message's, of protobuf
    """
    left, taken, fields = [(0, len(data), descriptor, 1)], 0, 0
    while left:
        at, end, kind, depth = left.pop()
        known = kind.fields_by_number
        while at < end:
            tag, at = _varint(data, at, end)
            number, wire = tag >> 3, tag & 7
            size, at = _size(data, at, end, wire)
            field = known.get(number)
            inner = field.message_type if field is not None and wire == 2 else None
            taken += SCALAR if wire != 2 else MESSAGE if inner else _bytes(field, size)
            fields += 1
            if fields > MAX_FIELDS or depth > MAX_DEPTH or taken > max_bytes:
                raise FormatError(f"a file has at most {MAX_FIELDS} fields, {MAX_DEPTH} messages "
                                  f"in one another and {max_bytes} bytes once it is read, got more")
            if inner:
                left.append((at, at + size, inner, depth + 1))
            at += size


def _bytes(field, size: int) -> int:
    # What a run of bytes becomes: text stays as long, a list of varints grows.
    packed = field is not None and field.type not in (field.TYPE_STRING, field.TYPE_BYTES)
    return SCALAR + size * (PACKED if packed else 1)


def _size(data: bytes, at: int, end: int, wire: int) -> tuple[int, int]:
    # The bytes of a field's value, and where they begin.
    if wire == 0:
        size = _varint(data, at, end)[1] - at
    elif wire == 2:
        size, at = _varint(data, at, end)
    elif wire in FIXED:
        size = FIXED[wire]
    else:
        raise FormatError(f"byte {at}: no field has the type {wire}; this is no ONNX file")
    if size > end - at:
        raise FormatError(f"byte {at}: a field of {size} bytes is cut off; {end - at} are left")
    return size, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    # A number of 7 bits a byte, least significant first, and where what follows begins.
    n = shift = 0
    for at in range(at, min(at + 10, end)):
        n |= (data[at] & 127) << shift
        if data[at] < 128:
            return n, at + 1
        shift += 7
    raise FormatError(f"byte {at}: a number does not end; this is no ONNX file")
