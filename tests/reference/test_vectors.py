import json

import numpy as np
import pytest
from minicomp.reference import ENTRIES, vectors, write_vectors


def test_floats_are_written_shortest_and_integers_beyond_doubles_as_text():
    plain = vectors.plain(np.array([0.1, np.nan, -np.inf], np.float32))
    assert plain["data"] == [0.1, "nan", "-inf"] and plain["bits"][0] == "3dcccccd"
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert vectors.plain(np.array([2**53, 2**53 + 1]))["data"] == [2**53, str(2**53 + 1)]


@pytest.mark.parametrize("name", ENTRIES)
def test_vectors_of_every_entry_can_be_written(name, tmp_path):
    counts = {write_vectors(name, tmp_path / f"v{ending}") for ending in (".json", ".npz")}
    assert len(counts) == 1 and counts.pop() >= 3


def test_npz_vectors_of_lists_read_back(tmp_path):
    count = write_vectors("dead_units", tmp_path / "v.npz")
    with np.load(tmp_path / "v.npz", allow_pickle=False) as f:
        for i in range(count):
            layers = sum(name.startswith(f"{i}/masks/") for name in f)
            alive = ENTRIES["dead_units"].fn([f[f"{i}/masks/{j}"] for j in range(layers)])
            for j, a in enumerate(alive):
                np.testing.assert_array_equal(a, f[f"{i}/expected/{j}"])


NAMES = ["relative_index", "obs_step", "huffman_lengths", "kmeans_1d", "dead_units"]


@pytest.mark.parametrize("name", NAMES)
def test_json_vectors_hold_the_cases_bit_for_bit(name, tmp_path):
    count = write_vectors(name, tmp_path / "v.json", seed=1)
    written = json.loads((tmp_path / "v.json").read_text())
    assert written["contract"] == vectors.VERSION and len(written["cases"]) == count
    for case in written["cases"]:
        arguments = {k: _read(v) for k, v in case["arguments"].items()}
        expected = ENTRIES[name].fn(**arguments)  # of arguments read back: the same bits
        several = isinstance(expected, tuple | list)
        parts = expected if several else (expected,)
        given = case["expected"] if several else [case["expected"]]
        for e, g in zip(parts, given, strict=True):
            np.testing.assert_array_equal(_read(g), e)


def _read(plain):
    if isinstance(plain, list):
        return [_read(v) for v in plain]
    if not isinstance(plain, dict):
        return plain
    dtype = np.dtype(plain["dtype"])
    if "bits" in plain:
        data = np.array(
            [np.frombuffer(bytes.fromhex(b), dtype.newbyteorder(">"))[0] for b in plain["bits"]],
            dtype,
        )
        np.testing.assert_array_equal(data, np.array(plain["data"], dtype))
    else:
        data = np.array([int(e) if isinstance(e, str) else e for e in plain["data"]], dtype)
    value = data.reshape(plain["shape"])
    return value if value.ndim else value.item()


def test_npz_vectors_read_back(tmp_path):
    count = write_vectors("pack_bits", tmp_path / "v.npz")
    with np.load(tmp_path / "v.npz", allow_pickle=False) as f:
        for i in range(count):
            np.testing.assert_array_equal(
                ENTRIES["pack_bits"].fn(f[f"{i}/values"], int(f[f"{i}/width"])),
                f[f"{i}/expected/0"],
            )
    with pytest.raises(ValueError, match="path must end in .json or .npz"):
        write_vectors("pack_bits", tmp_path / "v.txt")
