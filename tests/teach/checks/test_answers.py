# Answers as students write them, and what each is told; the slug "" is a right answer.

import numpy as np
import pytest
from minicomp.reference.judges import copied
from minicomp.teach import catalog
from minicomp.teach.asking.exercise import Answer, assess, questions
from minicomp.teach.live.calling import one_answer


def verdict(id, fn):
    exercise = catalog.exercise(id)
    asked = questions(exercise)
    calls = [call for a in asked for call in a.calls]
    return assess(exercise, asked, [Answer(*one_answer(fn, copied(c))) for c in calls])


def in_place(g, x):
    g[x <= 0] = 0
    return g


def percentile_mask(w, s):
    return np.abs(w) >= np.percentile(np.abs(w), 100 * s)


def half_up_mask(w, s):
    mask = np.ones(w.size, bool)
    mask[np.argsort(np.abs(w), axis=None, kind="stable")[: int(s * w.size + 0.5)]] = False
    return mask.reshape(w.shape)


def step_in_place(w, v, mask, grads, lr, momentum, weight_decay):
    path, w, v = [], w * mask, v.copy()
    for g in grads:
        v *= momentum
        v += g + weight_decay * w
        w -= lr * v
        w *= mask
        path.append(w)
    return np.stack(path)


def percentile_keep(gammas, s):
    cut = np.percentile(np.abs(np.concatenate(gammas)), 100 * s)
    return tuple(np.abs(g) >= cut for g in gammas)


def percentile_of_each(gammas, s):
    return tuple(np.abs(g) >= np.quantile(np.abs(g), s) for g in gammas)


def one_mask(w, mask, target, lr, a, b, steps):
    mask, path = (np.abs(w) >= b) | mask & (np.abs(w) >= a), []
    for _ in range(steps):
        w = w - lr * (w * mask - target)
        path.append(w)
    return np.stack(path), np.stack([mask] * steps)


def zeroed(keep, w1, b1, gamma, beta, mean, var, w2):
    w1 = w1.copy()
    w1[~keep] = 0
    return w1, b1, gamma * keep, beta * keep, mean, var, w2


def first_mean_and_variance(keep, w1, b1, gamma, beta, mean, var, w2):
    n = keep.sum()
    return w1[keep], b1[keep], gamma[keep], beta[keep], mean[:n], var[:n], w2[:, keep]


def by_falling_scale(keep, w1, b1, gamma, beta, mean, var, w2):
    i = np.argsort(-gamma)
    i = i[keep[i]]
    return w1[i], b1[i], gamma[i], beta[i], mean[i], var[i], w2[:, i]


def zeroed_first(w, Hinv):
    L = w**2 / (2 * np.diag(Hinv))
    q, moved = int(np.argmin(L)), w.copy()
    moved[q] = 0
    moved -= moved[q] / Hinv[q, q] * Hinv[:, q]
    return q, L[q], moved


def float_zero_point(lo, hi, bits):
    scale = (max(hi, 0) - min(lo, 0)) / (2**bits - 1) or 1.0
    return scale, np.rint(-min(lo, 0) / scale)


def into_bytes(x, scale, zero_point, bits):
    q = (np.rint(x / scale) + zero_point).astype(np.int64).astype(np.uint8)
    return q, scale * (q.astype(float) - zero_point)


def of_a_table_that_may_be_0(w, bits, per_channel):
    rows = w.reshape(len(w) if per_channel else 1, -1)
    scale = np.abs(rows).max(axis=1) / (2 ** (bits - 1) - 1)
    with np.errstate(invalid="ignore"):
        error = rows - scale[:, None] * np.rint(rows / scale[:, None])
    return scale, np.mean(error**2), (w.size * bits + 7) // 8 + 4 * len(scale)


def bias_in_place(w, w_hat, b, x):
    b -= (w_hat - w) @ x.mean(axis=0)
    return b


def mean_of_shifts(w, w_hat, b, x):
    return b - np.mean([(w_hat - w) @ one for one in x], axis=0)


def by_loops(counts, width, levels):
    best = (np.inf, 0)
    for i in range(levels, len(counts) + 1):
        p = [*counts[: i - 1], counts[i - 1 :].sum()]
        q = np.zeros(i)
        for j in range(levels):
            bins = [k for k in range(i) if k * levels // i == j and counts[k] > 0]
            for k in bins:
                q[k] = sum(counts[b] for b in bins) / len(bins)
        if p[-1] > 0 and q[-1] == 0:
            continue
        pairs = [(a / sum(p), b / q.sum()) for a, b in zip(p, q) if a > 0]
        best = min(best, (sum(a * np.log(a / b) for a, b in pairs), (i + 0.5) * width))
    return best[::-1]


def in_type_of_sums(acc, m, zero_point):
    f, e = np.frexp(m)
    m0, n = int(np.rint(f * 2**31)), int(31 - e)
    return m0, n, np.clip(((acc * m0 + 2 ** (n - 1)) >> n) + zero_point, 0, 255)


def exponent_of_32_bits(acc, m, zero_point):
    f, e = np.frexp(m)
    m0, n = int(np.rint(f * 2**31)), 31 - e
    if m0 == 2**31:
        m0, n = 2**30, n - 1
    return m0, n, np.clip((acc.astype(np.int64) * m0 + 2 ** (n - 1) >> n) + zero_point, 0, 255)


def as_bytes(acc, m, zero_point):
    f, e = np.frexp(m)
    m0, n = np.int64(np.rint(f * 2**31)), 31 - int(e)
    if m0 == 2**31:
        m0, n = m0 >> 1, n - 1
    q = (acc * m0 + (1 << n - 1) >> n) + zero_point
    return m0, n, np.clip(q, 0, 255).astype(np.uint8)


def masked_in_place(g, x, scale, zero_point, bits):
    q = np.rint(x / scale) + zero_point
    g[(q < 0) | (q > 2**bits - 1)] = 0
    return g


def for_each_weight(g, v, scale, bits):
    hi, t = 2 ** (bits - 1) - 1, v / scale
    return g * np.where(abs(t) < hi, np.rint(t) - t, hi * np.sign(t)) / np.sqrt(v.size * hi)


def floor_of_sum(x, u, il, fl):
    half = 2.0 ** (il + fl - 1)
    return np.clip(np.floor(x * 2.0**fl + u), -half, half - 1) * 2.0**-fl


def other_side(x, u, il, fl):
    half, t = 2.0 ** (il + fl - 1), x * 2.0**fl
    q = np.floor(t) + (u > 1 - (t - np.floor(t)))
    return np.clip(q, -half, half - 1) * 2.0**-fl


def rounded_python(x, il, fl):
    half = 2.0 ** (il + fl - 1)
    return np.array([min(max(round(v * 2**fl), -half), half - 1) * 2.0**-fl for v in x])


def clipped_first(x, il, fl):
    x = np.clip(x, -(2.0 ** (il - 1)), 2.0 ** (il - 1))  # the upper end is no number of the grid
    return np.ceil(x * 2.0**fl - 0.5) * 2.0**-fl


def added_in_place(c, index, g, lr):
    found = np.zeros_like(c)
    np.add.at(found, index, g)
    c[1:] -= lr * found[1:]
    return found, c


def one_by_one_mask(c, index, g, lr):
    found = np.array([g[index == k].sum() for k in range(len(c))])
    return found, np.append(c[0], (c - lr * found)[1:])


def mean_of_members(c, index, g, lr):
    found = np.array([g[index == k].mean() if (index == k).any() else 0 for k in range(len(c))])
    return found, np.append(c[0], (c - lr * found)[1:])


def by_search(O, I, d, k, t, b):
    s = -(-I // d)

    def bits(rows):
        return t * (rows * s * (k - 1).bit_length() + s * k * d * b)

    if bits(1) - bits(0) >= 32 * I:
        return -(-bits(O) // 8), 0
    lo, hi = 0, 2**40
    while hi - lo > 1:
        middle = (lo + hi) // 2
        lo, hi = (lo, middle) if bits(middle) < 32 * I * middle else (middle, hi)
    return -(-bits(O) // 8), hi


def in_floats_of_numpy(O, I, d, k, t, b):
    s, bits = np.ceil(I / d), np.log2(k)
    total = t * (O * s * bits + s * k * d * b)
    rows = t * s * k * d * b / (32 * I - t * s * bits)
    return int(np.ceil(total / 8)), int(np.floor(rows)) + 1 if rows > 0 else 0


def big_number(data, p):
    # The whole message as one number of Python, never shifted in.
    v, r = int.from_bytes(bytes(data) + bytes(4 * len(p) + 8), "big"), 2**32 - 1
    unit = 8 * (len(data) + 4 * len(p) + 4)
    out = []
    for likely in p.tolist():
        cut = r * likely >> 16
        out.append(int(v < cut << unit))
        r, v = (cut, v) if out[-1] else (r - cut, v - (cut << unit))
        while r < 2**24:
            r, unit = r << 8, unit - 8
    return out


def of_exact_fractions(data, p):
    v, r, out, at = int.from_bytes(bytes(data)[:4].ljust(4, b"\0"), "big"), 2**32 - 1, [], 4
    for likely in p:
        cut = r * int(likely) // 65536
        out.append(v < cut)
        v, r = (v, cut) if v < cut else (v - cut, r - cut)
        while r < 2**24:
            v, r, at = 256 * v + (int(data[at]) if at < len(data) else 0), 256 * r, at + 1
    return np.array(out).astype(int)


def halves_of_words(z, m, n, K):
    high = z.view(np.uint32)[1::2]  # the upper half of a word, where low bytes come first
    return (high.astype(np.uint64) * K >> 32).reshape(m, n), 1 - 2 * (z & 1).astype(
        np.int8).reshape(m, n)


def as_floats(z, m, n, K):
    bucket = np.array([int(v / 2**64 * K) for v in z]).reshape(m, n)
    return bucket, np.where(z % 2 == 1, -1, 1).reshape(m, n)


def unsigned_signs(z, m, n, K):
    return (z // 2**32 * K // 2**32).reshape(m, n), (1 - 2 * (z % 2)).reshape(m, n)


def one_by_one(g, x, b, bucket, sign):
    V, to_V, to_b = sign * b[bucket], g.T @ x, np.zeros(len(b))
    for i, j in np.ndindex(*bucket.shape):
        to_b[bucket[i, j]] += sign[i, j] * to_V[i, j]
    return to_b, g @ V


def at_once(g, x, b, bucket, sign):
    to_b = np.zeros_like(b)
    to_b[bucket] += sign * (g.T @ x)
    return to_b, g @ (sign * b[bucket])


def numpys_add_at(g, x, b, bucket, sign):
    to_b = np.zeros_like(b)
    np.add.at(to_b, bucket, g.T @ x)
    return to_b, g @ (sign * b[bucket])


def counted_only(g, x, b, bucket, sign):
    to_b = np.bincount(bucket.ravel(), (sign * (g.T @ x)).ravel())
    return to_b, g @ (sign * b[bucket])


def mean_of_nobody(w, k):
    edges = np.quantile(w, np.linspace(0, 1, k + 1)[1:-1])
    codes = np.digitize(w, edges)
    with np.errstate(invalid="ignore"):
        means = np.bincount(codes, w, k) / np.bincount(codes, minlength=k)
    u = codes - (k - 1) / 2
    return codes, means, u @ w / (u @ u)


def least_squares(w, k):
    codes = np.digitize(w, np.quantile(w, np.arange(1, k) / k))
    means = [w[codes == i].mean() if (codes == i).any() else 0 for i in range(k)]
    u = codes - (k - 1) / 2
    return codes, np.array(means), np.linalg.lstsq(u[:, None], w, rcond=None)[0][0]


def dealt_out(w, k):
    codes = np.empty(len(w), int)
    for i, lot in enumerate(np.array_split(np.argsort(w, kind="stable"), k)):
        codes[lot] = i
    means = np.array([w[codes == i].mean() if (codes == i).any() else 0 for i in range(k)])
    u = codes - (k - 1) / 2
    return codes, means, u @ w / (u @ u)


def signs_in_place(a, w, g, lr):
    w_b = np.where(w >= 0, 1.0, -1.0)
    a_b = np.where(a >= 0, 1.0, -1.0)
    w -= lr * g.T @ a_b
    return a_b @ w_b.T, (g @ w_b) * (np.abs(a) <= 1), np.clip(w, -1, 1)


def numpys_sign(a, w, g, lr):
    a_b, w_b = np.sign(a), np.sign(w)
    return a_b @ w_b.T, (g @ w_b) * (np.abs(a) <= 1), np.clip(w - lr * (g.T @ a_b), -1, 1)


def in_python_integers(x, w):
    n = len(x)
    mine = sum(1 << k for k in range(n) if x[k] >= 0)
    other = sum(int(v) << 64 * i for i, v in enumerate(w))
    differ = ((mine ^ other) & ((1 << n) - 1)).bit_count()
    words = [mine >> 64 * i & 2**64 - 1 for i in range(len(w))]
    return np.array(words, np.uint64), n - 2 * differ


def words_of(x, w, order="little"):
    bits = np.zeros(64 * len(w), bool)
    bits[: len(x)] = x >= 0
    return np.packbits(bits, bitorder=order).view(np.uint64)


def words_alone(x, w):
    words = words_of(x, w)
    return words, len(x) - 2 * int(np.bitwise_count(words ^ w).sum())


def masked(x, w):
    return words_of(x, w), words_of(np.ones(len(x)), w) & (words_of(x, w) ^ w)


def sums_of_numpy(x, w):
    words, differ = masked(x, w)
    with np.errstate(all="ignore"):
        return words, len(x) - 2 * np.bitwise_count(differ).sum()


def pythons_sum(x, w):
    words, differ = masked(x, w)
    return words, len(x) - 2 * int(sum(np.bitwise_count(differ).tolist()))


def quotient(gain, bias, K):
    t, below = np.full(len(gain), -(2**31)), np.zeros(len(gain), bool)
    for c, (m, b) in enumerate(zip(gain.tolist(), bias.tolist())):
        least, most = sorted((-K * m + b, K * m + b))
        if least >= 0 or most < 0:
            below[c] = most < 0
        else:
            below[c] = m < 0
            t[c] = np.floor(-b / m) if m < 0 else np.ceil(-b / m)
    return t, below


def by_halving(gain, bias, K):
    def bit(s, c):
        return np.float32(s) * gain[c] + bias[c] >= 0

    t, below = [], []
    for c in range(len(gain)):
        lo, hi = -K, K
        first, last = bit(lo, c), bit(hi, c)
        while first != last and hi - lo > 1:
            middle = (lo + hi) // 2
            lo, hi = (middle, hi) if bit(middle, c) == first else (lo, middle)
        t.append(-(2**31) if first == last else lo if first else hi)
        below.append(not first if first == last else bool(first))
    return t, below


def by_sums(w, t):
    u, s, vt = np.linalg.svd(w)
    near = sum(s[i] * np.outer(u[:, i], vt[i]) for i in range(t))
    return near, np.linalg.norm(w - near) ** 2, t * w.shape[0] + t * w.shape[1]


def by_eigenvectors(w, t):
    values, v = np.linalg.eigh(w.T @ w)
    v = v[:, ::-1][:, :t]
    return w @ v @ v.T, values[::-1][t:].sum(), t * sum(w.shape)


def taken_for_v(w, t):
    u, s, v = np.linalg.svd(w, full_matrices=False)
    near = u[:, :t] @ np.diag(s[:t]) @ v[:, :t].T
    return near, np.sum(s[t:] ** 2), t * sum(w.shape)


def norm_of_the_rest(w, t):
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    return u[:, :t] * s[:t] @ vt[:t], np.linalg.norm(s[t:]), t * sum(w.shape)


def _offers(spectra, shapes, ranks):
    for i, (s, (m, k)) in enumerate(zip(spectra, shapes)):
        if ranks[i] == min(m, k):
            continue
        if (ranks[i] + 1) * (m + k) < m * k:
            yield m + k, s[ranks[i]] ** 2, i, ranks[i] + 1
        else:
            yield m * k - ranks[i] * (m + k), (s[ranks[i]:] ** 2).sum(), i, min(m, k)


def by_offers(spectra, shapes, budget):
    ranks, left = np.ones(len(shapes), int), budget - 4 * sum(m + k for m, k in shapes)
    while fit := [o for o in _offers(spectra, shapes, ranks) if 4 * o[0] <= left]:
        cost, _, i, ranks[i] = max(fit, key=lambda o: o[1] / (4 * o[0]))
        left -= 4 * cost
    return ranks


def best_or_nothing(spectra, shapes, budget):
    ranks, left = [1] * len(shapes), budget / 4 - sum(m + k for m, k in shapes)
    while offers := list(_offers(spectra, shapes, ranks)):
        cost, _, i, rank = max(offers, key=lambda o: o[1] / o[0])
        if cost > left:
            break
        ranks[i], left = rank, left - cost
    return ranks


def below_the_break_even(spectra, shapes, budget):
    ranks, left = [1] * len(shapes), budget / 4 - sum(m + k for m, k in shapes)
    while True:
        offers = [(s[t] ** 2 / (m + k), -i) for i, (s, (m, k), t) in
                  enumerate(zip(spectra, shapes, ranks))
                  if (t + 1) * (m + k) < m * k and m + k <= left]
        if not offers:
            return ranks
        i = -max(offers)[1]
        ranks[i] += 1
        left -= sum(shapes[i])


def by_convolve(x, a, b, c):
    y = np.tensordot(a, x, 1)
    y = np.apply_along_axis(np.convolve, 0, y, b, "valid")
    h = len(y)
    y = np.apply_along_axis(np.convolve, 1, y, c, "valid")
    (C, H, W), w = x.shape, y.shape[1]
    return y, C * H * W + len(b) * h * W + len(c) * h * w


def by_correlate(x, a, b, c):
    y = np.tensordot(a, x, 1)
    y = np.stack([np.correlate(column, b) for column in y.T], axis=1)
    counted = x.size + len(b) * y.size
    y = np.stack([np.correlate(row, c) for row in y])
    return y, counted + len(c) * y.size


def by_einsum(D, I, c):
    P = np.einsum("orqt,orqtk->orqk", c, np.eye(len(D))[I])
    return np.einsum("orqk,kj->ojrq", P, D), P


def indexed_sum(D, I, c):
    W, P = by_einsum(D, I, c)
    P = np.zeros_like(P)
    for place in np.ndindex(I.shape[:3]):
        P[place][I[place]] += c[place]
    return W, P


def left_as_they_come(D, I, c):
    _, P = by_einsum(D, I, c)
    return P @ D, P


def by_windows(x, D, I, c):
    W, (K, L) = by_einsum(D, I, c)[0], I.shape[1:3]
    seen = np.lib.stride_tricks.sliding_window_view(x, (K, L), axis=(1, 2))
    y = np.einsum("ojrq,jhwrq->ohw", W, seen)
    return y, len(D) * x.size + I.size * y.shape[1] * y.shape[2]


def as_dense(x, D, I, c):
    y, _ = by_windows(x, D, I, c)
    return y, y.size * len(x) * I.shape[1] * I.shape[2]


def by_scipys_word(x, D, I, c):
    # a convolution of mathematics
    return by_windows(x, D, I[:, ::-1, ::-1], c[:, ::-1, ::-1])


def by_normal_equations(x, D, s):
    p, chosen = np.zeros(len(D)), []
    unit = D / np.linalg.norm(D, axis=1, keepdims=True)
    for _ in range(s):
        rest = x - p @ D
        if np.linalg.norm(rest) < 1e-9:
            break
        chosen.append(np.argmax(np.abs(unit @ rest)))
        A = D[chosen]
        p[chosen] = np.linalg.solve(A @ A.T, A @ x)
    return p


def greedy(x, D, s):
    p = np.zeros(len(D))
    for _ in range(s):
        rest = x - p @ D
        j = np.argmax(np.abs(D @ rest) / np.linalg.norm(D, axis=1))
        p[j] += D[j] @ rest / (D[j] @ D[j])
    return p


def nearest_product(x, D, s):
    chosen, rest, p = [], x, np.zeros(len(D))
    while len(chosen) < s and np.abs(rest).max() > 1e-9:
        chosen.append(int(np.argmax(np.abs(D @ rest))))
        p[chosen] = np.linalg.lstsq(D[chosen].T, x, rcond=None)[0]
        rest = x - p @ D
    return p


def rounded_up_sides(m, n, h, w, k, stride):
    macs = (m * k * k + m * n) * -(-h // stride) * -(-w // stride)
    return m * (k * k + n), macs, 1 / n + 1 / k**2


def counts_as_floats(m, n, h, w, k, stride):
    params, macs, share = rounded_up_sides(m, n, h, w, k, stride)
    return params, share * m * n * k * k * -(-h // stride) * -(-w // stride) + 0.5, share


def dealt_by_remainder(x, groups):
    source = np.argsort(np.arange(len(x)) % (len(x) // groups), kind="stable")
    return x[source], source


def reshaped_alone(x, groups):
    order = np.arange(len(x))
    return x.reshape(groups, -1, *x.shape[1:]).reshape(x.shape), order


def whole_transpose(x, groups):
    return dealt_by_remainder(x, groups)[0], np.arange(len(x)).reshape(groups, -1).T


def path_by_path(e, d, p):
    w = np.zeros((len(p), e.shape[1], *d.shape[1:]))
    for i in range(len(d)):
        w += np.multiply.outer(np.outer(p[:, i], e[i]), d[i])
    return w


def by_matrices(e, d, p):
    # A product of matrices knows of no windows: sums of each.
    return np.multiply.outer(p @ e, d.sum(0))


def by_scipy(z, T):
    from scipy.special import softmax

    return softmax(z / T, axis=1)


def plain_exponentials(z, T):
    with np.errstate(all="ignore"):
        return np.exp(z / T) / np.exp(z / T).sum(1)[:, None]


def closed_in_place(z, v, y, T, alpha):
    soft = alpha * T * (by_scipy(z, T) - by_scipy(v, T))
    z -= z.max(1, keepdims=True)
    hard = by_scipy(z, 1)
    hard[range(len(y)), y] -= 1
    return ((1 - alpha) * hard + soft) / len(z)


def example_by_example(z, v, y, T, alpha):
    rows = []
    for one, other, label in zip(z, v, y):
        q, p, r = (by_scipy(a[None], t)[0] for a, t in ((one, T), (other, T), (one, 1)))
        rows.append((1 - alpha) * (r - np.eye(len(one))[label]) + alpha * T * (q - p))
    return np.stack(rows) / len(z)


def at_one_temperature(z, v, y, T, alpha):
    return closed_in_place(z.copy(), v, y, 1.0, alpha)


def by_products(a, b):
    q = np.square(b).sum(1).reshape(len(b), -1)
    flat = [x.reshape(*x.shape[:2], -1) for x in (a, b)]
    G = flat[0] @ flat[1].swapaxes(1, 2) / flat[1].shape[2]
    return q / np.sqrt(np.square(q).sum(1))[:, None], G


def maps_as_they_lie(a, b):
    q, G = by_products(a, b)
    return q.reshape(len(b), *b.shape[2:]), G


ANSWERS = [
    ("01.relu_backward", in_place, "overwrites"),
    ("01.relu_backward", lambda g, x: (g * (x > 0)).astype(np.float32), "too-coarse"),
    ("01.relu_backward", lambda g, x: None, "no-value"),
    ("01.matmul_backward", lambda g, a, b: [(g @ b.T).tolist(), a.T @ g], ""),
    ("02.linear_cost", lambda i, o, bias: (i * o + o * bias, i * o / 1), "wrong-type"),
    ("02.model_cost", lambda shape, layers: layers.pop() and [[0, 0]], "wrong-value"),
    ("03.separable_cost", rounded_up_sides, ""),
    ("03.separable_cost", counts_as_floats, "wrong-type"),
    ("03.channel_shuffle", dealt_by_remainder, ""),
    ("03.channel_shuffle", reshaped_alone, "nothing-moved"),
    ("03.channel_shuffle", whole_transpose, "wrong-shape"),
    ("03.merged", path_by_path, ""),
    ("03.merged", by_matrices, "wrong-value"),
    ("04.magnitude_mask", percentile_mask, "percentile"),
    ("04.magnitude_mask", half_up_mask, "half-up"),
    ("04.masked_sgd", step_in_place, "one-array"),
    ("04.keep_per_round", lambda keep, n: [keep ** (i / n) for i in range(1, n + 1)], ""),
    ("06.global_keep", percentile_keep, "percentile"),
    ("06.remove_channels", zeroed, "zeroed-not-removed"),
    ("06.remove_channels", first_mean_and_variance, "first-statistics"),
    ("06.remove_channels", by_falling_scale, "wrong-value"),
    ("06.global_keep", percentile_of_each, "each-layer"),
    ("05.surgery_steps", one_mask, "mask-made-once"),
    ("07.obs_step", zeroed_first, "only-zeroed"),
    ("08.low_rank", by_sums, ""),
    ("08.low_rank", by_eigenvectors, ""),
    ("08.low_rank", taken_for_v, "columns-of-v"),
    ("08.low_rank", norm_of_the_rest, "rooted"),
    ("08.choose_ranks", by_offers, ""),
    ("08.choose_ranks", best_or_nothing, "stops-early"),
    ("08.choose_ranks", below_the_break_even, "never-whole"),
    ("08.flattened_conv", by_correlate, ""),
    ("08.flattened_conv", by_convolve, "flipped"),
    ("09.decode", by_einsum, ""),
    ("09.decode", indexed_sum, "twice-is-once"),
    ("09.decode", left_as_they_come, "channels-last"),
    ("09.lookup_conv", by_windows, ""),
    ("09.lookup_conv", as_dense, "counted-dense"),
    ("09.lookup_conv", by_scipys_word, "flipped"),
    ("09.pursuit", by_normal_equations, ""),
    ("09.pursuit", greedy, "not-solved-again"),
    ("09.pursuit", nearest_product, "long-atoms-win"),
    ("10.affine_params", float_zero_point, "wrong-type"),
    ("10.quantize", into_bytes, "not-saturated"),
    ("10.weight_scales", of_a_table_that_may_be_0, "zero-channel"),
    ("11.corrected_bias", bias_in_place, "overwrites"),
    ("11.corrected_bias", mean_of_shifts, ""),
    ("11.kl_threshold", by_loops, ""),
    ("11.requantize", in_type_of_sums, "narrow-product"),
    ("11.requantize", exponent_of_32_bits, "narrow-product"),
    ("11.requantize", as_bytes, ""),
    ("12.fake_quant_backward", masked_in_place, "overwrites"),
    ("12.step_gradient", for_each_weight, "wrong-shape"),
    ("13.nearest_fixed", rounded_python, "tie-up"),
    ("13.nearest_fixed", clipped_first, "end-too-far"),
    ("13.stochastic_fixed", floor_of_sum, ""),
    ("13.stochastic_fixed", other_side, ""),
    ("13.fixed_dot", lambda a, b, il, fl: rounded_python([a @ b], il, fl)[0], "wrong-value"),
    ("14.centroid_step", one_by_one_mask, ""),
    ("14.centroid_step", added_in_place, "overwrites"),
    ("14.centroid_step", mean_of_members, "averaged"),
    ("14.product_bytes", by_search, ""),
    ("14.product_bytes", in_floats_of_numpy, "part-of-a-bit"),
    ("14.decode_bits", of_exact_fractions, ""),
    ("14.decode_bits", big_number, ""),
    ("15.hash_map", halves_of_words, ""),
    ("15.hash_map", as_floats, "in-floats"),
    ("15.hash_map", unsigned_signs, "wrapped-sign"),
    ("15.bucket_backward", one_by_one, ""),
    ("15.bucket_backward", at_once, "last-wins"),
    ("15.bucket_backward", numpys_add_at, "sign-forgotten"),
    ("15.bucket_backward", counted_only, "short"),
    ("15.equal_cells", least_squares, ""),
    ("15.equal_cells", mean_of_nobody, "empty-cell"),
    ("15.equal_cells", dealt_out, "by-rank"),
    ("16.binary_step", signs_in_place, "overwrites"),
    ("16.binary_step", numpys_sign, "sign-of-zero"),
    ("16.packed_dot", in_python_integers, ""),
    ("16.packed_dot", pythons_sum, ""),
    ("16.packed_dot", words_alone, "tail-counted"),
    ("16.packed_dot", sums_of_numpy, "wrapped"),
    ("16.sign_threshold", quotient, "divided"),
    ("16.sign_threshold", by_halving, ""),
    ("18.soft_targets", by_scipy, ""),
    ("18.soft_targets", plain_exponentials, "overflows"),
    ("18.kd_gradient", closed_in_place, "overwrites"),
    ("18.kd_gradient", example_by_example, ""),
    ("18.kd_gradient", at_one_temperature, "wrong-value"),
    ("18.map_targets", by_products, ""),
    ("18.map_targets", maps_as_they_lie, "wrong-shape"),
]


@pytest.mark.parametrize("id, fn, slug", ANSWERS, ids=[f"{a[0]}-{a[1].__name__}" for a in ANSWERS])
def test_what_students_write_is_told_what_is_true_of_it(id, fn, slug):
    told = verdict(id, fn)
    assert (told.message.slug if told.message else "") == slug, repr(told)


def test_a_percentile_is_not_taken_for_rounding_down():
    # On the case that is shown the mask has fewer zeros than rounding down leaves.
    told = verdict("06.global_keep", percentile_keep).message
    assert "gammas = ([1, 1], [1, 2]); sparsity = 0.4" in told.detail
    assert "got      [True, True]" in told.detail and "cut off" not in told.text


def test_another_order_of_the_channels_is_named_as_that():
    text = verdict("06.remove_channels", by_falling_scale).message.text
    assert "the channels are in another order" in text


def folded_mean(keep, w1, b1, gamma, beta, mean, var, w2):
    return w1[keep], (b1 - mean)[keep], gamma[keep], beta[keep], 0 * mean[keep], var[keep], w2[
        :, keep
    ]


def test_what_computes_the_same_by_other_numbers_is_not_called_another_order():
    text = verdict("06.remove_channels", folded_mean).message.text
    assert "computes the same" in text and "order" not in text


def by_mask_of_integers(keep, *arrays):
    i = keep.astype(int)  # 0 and 1 are places then
    return *(a[i] for a in arrays[:6]), arrays[6][:, i]


@pytest.mark.parametrize("fn", [by_mask_of_integers, lambda keep, *arrays: arrays])
def test_old_shapes_alone_are_not_called_zeros(fn):
    told = verdict("06.remove_channels", fn).message
    assert told.slug != "zeroed-not-removed" and "0 and" not in told.text


def test_a_masked_array_is_refused_as_that():
    told = verdict("01.relu_backward", lambda g, x: np.ma.masked_array(g, x <= 0)).message
    assert told.slug == "odd" and "masked array" in told.text


def as_lists(value):
    if isinstance(value, tuple | list):
        return [as_lists(v) for v in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("of", catalog.lessons().values(), ids=lambda of: of.number)
def test_an_input_that_exposes_the_variant_may_be_of_lists(of):
    # A list fails in every variant; none of the others is told to be wrong for that.
    for student in ("ann", "bea", "cem", "dan"):
        d = of.diagnosis
        exercise, slug = d.exercise(student), d.mutant(student).slug
        asked = questions(exercise)
        for given in (d.shown_by[slug], as_lists(d.shown_by[slug])):
            told = assess(exercise, asked, [Answer("value", given)])
            assert told.points == exercise.max_points, (slug, repr(told))
