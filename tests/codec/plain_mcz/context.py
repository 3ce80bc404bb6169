"""Section 7: the range decoder, and the layout context."""

from .bits import ceil2, clip


class Range:
    def __init__(self, data):
        self.data, self.at, self.code, self.range = data, 0, 0, 2**32 - 1
        for _ in range(4):
            self.next()

    def next(self):
        byte = self.data[self.at] if self.at < len(self.data) else 0
        self.code, self.at = (self.code << 8 | byte) % 2**32, self.at + 1

    def bit(self, p):
        bound = self.range * p >> 16
        b = int(self.code < bound)
        if b:
            self.range = bound
        else:
            self.code, self.range = self.code - bound, self.range - bound
        while self.range < 2**24:
            self.range <<= 8
            self.next()
        return b


def learn(state, b, limit):
    state[0] += (((2**22 - 1 if b else 0) - state[0]) * (2**17 // (2 * state[1] + 3))) >> 16
    state[1] = min(state[1] + 1, limit)


def context(data, R, C, m, K, lag):
    coder, n, codes = Range(data), R * C, [[0] * C for _ in range(R)]

    def bit(state):
        b = coder.bit(clip(state[0] >> 6, 16, 65520))
        learn(state, b, 1023)
        return b

    def near(row, c):
        return [row[c - d] for d in ((1, lag, lag + 1, lag - 1) if lag else (1,)) if d <= c]

    def density(a, b, w):
        return min(((a * n + w * m) << 16) // ((b + w) * m), 2**24)

    states = []
    for q in range(24):
        P, by = (m << 22) // n * (7 if q % 2 else 5) // 4, q - 14 >> 1
        P = P << by if by >= 0 else P >> -by
        states += [[clip(P, 2**9, 2**22 - 2**18), 4] for _ in range(5)]
    above = [0] * C
    for r in range(R if m else 0):
        left = 0
        for c in range(C):
            v = density(above[c], r, 8) * density(left, c, 20) >> 16 | 1
            e = v.bit_length() - 1
            q = clip(2 * (e - 16) + (v >> e - 1 & 1 if e else 0) + 14, 0, 23)
            k = sum(code > 0 for code in near(codes[r], c))
            codes[r][c] = bit(states[5 * q + k])
            above[c], left = above[c] + codes[r][c], left + codes[r][c]
    width, before = ceil2(K), None
    highest, below = [[2**21, 0] for _ in range(11)], [[2**21, 0] for _ in range(1 << width)]

    def high(code):
        return code - 1 >> width - 1

    for row in codes if K > 1 else []:
        for c in range(C):
            if row[c]:
                side = sum(1 if high(code) else -1 for code in near(row, c) if code)
                h = side + 4 if side or before is None else 9 if before else 10
                node = 1
                for _ in range(width):
                    node = 2 * node + bit(highest[h] if node == 1 else below[node])
                row[c] = node - (1 << width) + 1
                before = high(row[c])
    return codes
