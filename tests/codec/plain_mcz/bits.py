"""Section 3: the bits of a section."""


def ceil2(k):
    return (k - 1).bit_length()


def clip(v, lo, hi):
    return min(max(v, lo), hi)


def product(shape):
    n = 1
    for side in shape:
        n *= side
    return n


class Bits:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, width):
        value = 0
        for i in range(width):
            value |= (self.data[self.at // 8] >> self.at % 8 & 1) << i
            self.at += 1
        return value

    def numbers(self, n, width):
        return [self.number(width) for _ in range(n)]

    def count(self):
        value = shift = 0
        while True:
            group = self.number(4)
            value, shift = value | (group & 7) << shift, shift + 3
            if group < 8:
                return value

    def rice(self, n, k):
        high = []
        for _ in range(n):
            zeros = 0
            while not self.number(1):
                zeros += 1
            high.append(zeros)
        return [v << k | low for v, low in zip(high, self.numbers(n, k))]

    def whole_bytes(self, n):
        while self.at % 8:
            assert not self.number(1)
        return self.numbers(n, 8)

    def left(self):
        return 8 * len(self.data) - self.at


def unzigzag(u):
    return -(u + 1 >> 1) if u & 1 else u >> 1
