"""Section 4, "Numbers drawn by rule": splitmix64 and what seeded weights take from it."""

ALL = 2**64 - 1


def drawn(key, i):
    z = key + (i + 1) * 0x9E3779B97F4A7C15 & ALL
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & ALL
    z = (z ^ z >> 27) * 0x94D049BB133111EB & ALL
    return z ^ z >> 31


def order(n, seed):
    return sorted(range(n), key=lambda i: drawn(seed, i))


def normals(seed, block, k, size):
    # integers, of mean 0
    key = drawn(drawn(drawn(seed, 2**32), block), k)
    return [sum(drawn(key, i).to_bytes(8, "little")) - 1020 for i in range(size)]
