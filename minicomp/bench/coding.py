"""Races of the coders: rANS and Huffman beside zlib and zstd, ours of contexts beside nncodec's.

Sizes are of the same integer codes, payload against payload: what stands in headers, codebooks and
tables beside them is in no column. The four nets are those of tests/data/nets, in a checkout; a
general compressor gets all codes of a net, a byte each, tensor after tensor.
"""

from __future__ import annotations

import importlib.util
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ..codec import context, huffman, mixed, positions, rans
from ..codec.bits import bits_needed
from ..codec.entropy import order0_bits
from ..codec.model import encode
from ..compress.rate.trellis import trellis_quantize
from ..grid.trellis import trellis_points
from ..kernels.coding import mixing, range_coder
from ..kernels.coding import rans as kernel
from ..models import MODELS
from ..nn import Codebook, Half
from .race import Log, Row, peer_module, race, row

Array = np.ndarray
NETS = Path(__file__).parents[2] / "tests" / "data" / "nets"
SYMBOLS = 2_000_000
OLD_BYTES = {"dc-lenet300": 6209, "dc-lenet5": 9962, "dns-lenet300": 3134, "dns-lenet5": 3655}
UNARY = 10  # nncodec's default
DEPENDENT_STEP, DEPENDENT_LAM = 1.2, 0.5  # of drawn weights: two thirds of the codes become 0
ZSTD, ZSTD_BEST, BROTLI, XZ = 1, 19, 11, 9  # levels


def coders(peers: bool, log: Log) -> Iterator[Row]:
    """Yields decoding speeds, and bytes of pruned nets."""
    yield from _streams(peers, log)
    yield from _nets(peers, log)
    yield from _files()
    yield from _dependent(peers, log)


def _streams(peers: bool, log: Log) -> Iterator[Row]:
    rng, n = np.random.default_rng(0), SYMBOLS
    zstd = peer_module("zstandard", peers, log)
    for name, symbols in {
        "4-bit codes": np.clip(np.rint(2.2 * rng.normal(size=n) + 7.5), 0, 15),
        "8-bit codes": np.clip(np.rint(12 * rng.normal(size=n) + 127.5), 0, 255),
    }.items():
        symbols = symbols.astype(np.uint8)
        shape = f"{name}, {order0_bits(symbols) / n:.2f} bits"
        ours = _our_decoders(symbols)
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
        packed = deflate.compress(symbols.tobytes()) + deflate.flush()
        theirs = {"zlib HUFFMAN_ONLY": (packed, lambda data=packed: zlib.decompress(data, -15, n))}
        if zstd:
            frame = zstd.ZstdCompressor(level=ZSTD).compress(symbols.tobytes())
            unpack = zstd.ZstdDecompressor()
            theirs[f"zstd level {ZSTD}"] = frame, lambda frame=frame, u=unpack: u.decompress(frame)
        for coder, (size, decode) in ours.items():
            for peer, (data, other) in theirs.items():
                times = race({"ours": decode, peer: other})
                yield row(f"{coder} decode", shape, times, peer,
                          f"{size:,} bytes, theirs {len(data):,}", unit="MB/s", work=n / 1e6)


def _our_decoders(symbols: Array) -> dict[str, tuple[int, Callable]]:
    freq, n = np.bincount(symbols), len(symbols)
    given = rans.slots(freq)
    message = kernel.encode(symbols, given)
    lengths = huffman.huffman_lengths(freq, huffman.FAST_LENGTH)
    parts = huffman.encode_four(symbols, lengths)
    data, sizes = np.concatenate(parts), np.array([len(part) for part in parts])
    return {
        "rans": (len(message), lambda: kernel.decode(message, n, given)),
        "huffman": (len(data), lambda: huffman.decode_four(data, sizes, n, lengths)),
    }


def nets() -> dict[str, list[tuple[str, Array]]]:
    """Returns the signed codes of each pruned weight of the nets that are here, by net.

    0 is a pruned entry, 1, 2, ... the values above 0 in order, -1, -2, ... those below.
    """
    found = {}
    for path in sorted(NETS.glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            names = [key.removesuffix(".index") for key in arrays if key.endswith(".index")]
            found[path.stem] = [
                (name, _signed(arrays[f"{name}.index"], arrays[f"{name}.centroids"]))
                for name in names if arrays[f"{name}.pinned_zero"]]
    return found


def _signed(index: Array, centroids: Array) -> Array:
    # as the file counts them: the codes in order, those of values below 0 first
    low = int(np.count_nonzero(centroids < 0))
    code = index.astype(np.int32)
    return np.where(code == 0, 0, np.where(code <= low, code - low - 1, code - low))


def _nets(peers: bool, log: Log) -> Iterator[Row]:
    cabac = _deep_cabac(peers, log)
    for net, tensors in nets().items():
        order0 = sum(order0_bits(codes - codes.min()) for _, codes in tensors) / 8
        others = _general(tensors, peers, log)
        note = ", ".join(f"{name} {others[name]:,.0f}" for name in others)
        peer, theirs = "order-0 entropy", order0
        if cabac:
            streams = [_cabac_encode(cabac, codes) for _, codes in tensors]
            peer, theirs = "nncodec deepCABAC, parameters optimised", sum(map(len, streams))
            note = f"order-0 entropy {order0:,.0f}, {note}"
        for coder, ours in {"mixed": _mixed(tensors), "context": _context(tensors)}.items():
            size = sum(len(data) for data, _ in ours)
            yield {"kernel": f"pruned codes, {coder}", "shape": net, "ours": float(size),
                   "peer": float(theirs), "ratio": theirs / size, "unit": "bytes",
                   "note": f"bytes; peer: {peer}; {note}"}
            if cabac:
                times = race({"ours": lambda ours=ours: [decode() for _, decode in ours],
                              "nncodec": lambda: [_cabac_decode(cabac, stream, codes.shape) for
                                                  stream, (_, codes) in zip(streams, tensors)]})
                yield row(f"pruned codes, {coder}, decode", net, times, "nncodec")


def _files() -> Iterator[Row]:
    # Whole files of the same weights, beside what they took before the layout mixed.
    for path in sorted(NETS.glob("*.json")):
        note = json.loads(path.read_text(encoding="utf-8"))
        model, old = MODELS[note["model"]](normalize="mnist"), OLD_BYTES[path.stem]
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            for form in model.forms():
                book = Half(arrays[f"{form}.centroids"])
                zero = bool(arrays[f"{form}.pinned_zero"])
                model.set_form(form, Codebook(arrays[f"{form}.index"], book, zero).freeze())
        size = len(encode(model))
        yield {"kernel": "whole file", "shape": path.stem, "ours": float(size),
               "peer": float(old), "ratio": old / size, "unit": "bytes",
               "note": "bytes; peer: the same weights before there was the layout mixed"}


def _dependent(peers: bool, log: Log) -> Iterator[Row]:
    """Codes of dependent quantization, which nncodec codes by the quantizer that each is of.

    It takes points for codes, and walks through all rows without a new beginning: the points of
    that walk stand for the very codes that ours get.
    """
    cabac = _deep_cabac(peers, log)
    if not cabac:
        return
    rng, shape = np.random.default_rng(0), (300, 784)
    scale = np.exp(0.5 * rng.normal(size=(300, 1)) + 0.5 * rng.normal(size=784))
    for drawn, each in {"alike": 1.0, "scales by row and column": scale}.items():
        w = each * rng.laplace(size=shape)
        k, _ = trellis_quantize(w, DEPENDENT_STEP, DEPENDENT_LAM, most=15, iterations=6)
        walk = trellis_points(k.reshape(1, -1), 8).reshape(shape)
        theirs = len(_cabac_encode(cabac, walk, dependent=1))
        order0 = order0_bits(k - k.min()) / 8
        for coder, ours in {"mixed": _mixed, "context": _context}.items():
            size = len(ours([("w", k)])[0][0])
            yield {"kernel": f"dependent codes, {coder}", "shape": f"Laplace 300 x 784, {drawn}",
                   "ours": float(size), "peer": float(theirs), "ratio": theirs / size,
                   "unit": "bytes", "note": "bytes; peer: nncodec deepCABAC, dependent, parameters "
                   f"optimised; order-0 entropy {order0:,.0f}"}


def _shifted(codes: Array) -> tuple[Array, int, int]:
    # symbols as the layouts take them, how many are below 0, and above
    low, high = int(-codes.min()), int(codes.max())
    return np.where(codes == 0, 0, np.where(codes < 0, codes + low + 1, codes + low)), low, high


def _mixed(tensors: list[tuple[str, Array]]) -> list[tuple[Array, Callable]]:
    # (data, what decodes them) of each tensor
    units, made = None, []
    for _, codes in tensors:
        symbols, low, high = _shifted(codes)
        known = mixed.Known(codes.shape, low + high, units, below=low)
        packed = mixed.pack(symbols, known, low)
        made.append((packed.data, lambda packed=packed, known=known: _decoded(packed, known)))
        units = mixed.units_of(codes != 0)
    return made


def _decoded(made: mixed.Mixed, known: mixed.Known) -> Array:
    sides = made.low, known.symbols - made.low
    return mixing.decode(made.data, mixed.table_shape(known.shape), made.kept, sides, made.width,
                         made.block, known.by_column if made.with_units else None)[0]


def _context(tensors: list[tuple[str, Array]]) -> list[tuple[Array, Callable]]:
    made = []
    for _, codes in tensors:
        symbols, low, high = _shifted(codes)
        bits, kept = bits_needed(low + high), int(np.count_nonzero(symbols))
        tried = {order: context.pack(symbols, order, low + high, None)
                 for order in range(len(positions.orders(codes.ndim)))}
        order = min(tried, key=lambda order: len(tried[order][0]))
        (data, lag), sides = tried[order], context.sides(codes.shape, order)
        made.append((data, lambda data=data, sides=sides, kept=kept, bits=bits, lag=lag:
                     range_coder.decode(data, sides, kept, bits, lag)))
    return made


def _general(tensors: list[tuple[str, Array]], peers: bool, log: Log) -> dict[str, float]:
    data = b"".join(codes.astype(np.int8).tobytes() for _, codes in tensors)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    sizes = {"zlib HUFFMAN_ONLY": len(deflate.compress(data) + deflate.flush()),
             f"xz {XZ}": len(lzma.compress(data, lzma.FORMAT_XZ, preset=XZ))}
    if zstd := peer_module("zstandard", peers, log):
        for level in (ZSTD, ZSTD_BEST):
            sizes[f"zstd {level}"] = len(zstd.ZstdCompressor(level=level).compress(data))
    if brotli := peer_module("brotli", peers, log):
        sizes[f"brotli {BROTLI}"] = len(brotli.compress(data, quality=BROTLI))
    if constriction := peer_module("constriction", peers, log):
        sizes["constriction range ANS, order 0"] = sum(
            _ans_bytes(constriction, codes) for _, codes in tensors)
    return sizes


def _ans_bytes(constriction, codes: Array) -> int:
    symbols = (codes - codes.min()).ravel().astype(np.int32)
    shares = np.bincount(symbols) / symbols.size
    model = constriction.stream.model.Categorical(shares, perfect=False)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(symbols, model)
    return 4 * len(coder.get_compressed())


def _deep_cabac(peers: bool, log: Log):
    # nncodec's coder by itself: its package imports torch and more
    spec = importlib.util.find_spec("nncodec") if peers else None
    if spec is None or spec.origin is None:
        return peer_module("nncodec", peers, log)
    found = sorted(Path(spec.origin).parent.glob("extensions/deepCABAC*.so"))
    if not found:
        return None
    own = importlib.util.spec_from_file_location("deepCABAC", found[0])
    module = importlib.util.module_from_spec(own)
    own.loader.exec_module(module)
    return module


def _table(shape: tuple[int, ...]) -> Array:
    return np.zeros((shape[0], int(np.prod(shape[1:]))), np.int32)


def _cabac_encode(cabac, codes: Array, dependent: int = 0) -> Array:
    table = np.ascontiguousarray(codes.reshape(len(codes), -1), np.int32)
    coder = cabac.Encoder()
    coder.initCtxModels(UNARY, 1)
    empty = (~table.any(axis=1)).astype(np.int32)
    coder.encodeLayer(table, dependent, 0, 0, 0, 0, empty, cabac.HdspMode.AlwaysOff,
                      np.zeros(0, np.int8), 0, 0)
    return np.array(coder.finish(), np.uint8)


def _cabac_decode(cabac, data: Array, shape: tuple[int, ...]) -> Array:
    coder, table = cabac.Decoder(), _table(shape)
    coder.setStream(data)
    coder.initCtxModels(UNARY)
    coder.decodeLayer(table, 0, 0, 0, 0, cabac.HdspMode.AlwaysOff, np.zeros(0, np.int8), 0, 0)
    coder.finish()
    return table
