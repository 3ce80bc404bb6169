"""The C99 of a program's instructions: what `c99` puts together, one text for each function.

Maps lie (C, H, W), as they are meant: a flattened one is the same bytes. Nothing is included but
stdint.h. Right shifts of negative numbers, which C leaves to the compiler, are written so that they
are not needed. Every function gives the bits of its reference in minicomp/kernels/int8.
"""

from __future__ import annotations

# How accumulators become codes, by rounding; see kernels/int8/requantize.py.
RULE = {
    "single": """
/* How accumulators of output channel o become codes: entry o of each array, or entry 0 of all
 * (each = 0). M = m0 2^-shift; the zero point is added before rounding or after it. */
struct rule {
    const int32_t *m0;
    const uint8_t *shift, *lo, *hi;
    int32_t each, before, after;
};
""",
    "float": """
/* How accumulators of output channel o become codes: entry o of each array, or entry 0 of all
 * (each = 0). The zero point is added before rounding or after it. */
struct rule {
    const float *factor;
    const uint8_t *lo, *hi;
    int32_t each, before, after;
};
""",
}
RULE["gemmlowp"] = RULE["single"]

CLIPPED = """
static uint8_t clipped(int64_t y, uint8_t lo, uint8_t hi)
{
    return y < lo ? lo : y > hi ? hi : (uint8_t)y;
}
"""

FLOORED = """
/* floor(v / 2^n) */
static int64_t floored(int64_t v, int n)
{
    return v < 0 ? ~(~v >> n) : v >> n;
}
"""

AWAY = """
/* v / 2^n to the nearest, ties away from zero */
static int64_t away(int64_t v, int n)
{
    const int64_t half = ((int64_t)1 << n) >> 1;
    return v < 0 ? -((half - v) >> n) : (v + half) >> n;
}
"""

EVEN = """
/* t to the nearest whole number, ties to even; beyond 1024 all codes saturate. Products pass
 * through memory as float, so that no compiler keeps more of them. */
static int32_t even(float t)
{
    int32_t whole;
    float rest;
    if (t < -1024.0f) return -1024;
    if (t > 1024.0f) return 1024;
    whole = (int32_t)t;
    rest = t - (float)whole;
    if (rest > 0.5f || (rest == 0.5f && whole % 2 != 0)) return whole + 1;
    if (rest < -0.5f || (rest == -0.5f && whole % 2 != 0)) return whole - 1;
    return whole;
}
"""

CODE = {
    "single": """
/* (acc M0 + 2^(n-1)) >> n: ties upward */
static uint8_t code(int32_t acc, const struct rule *r, int32_t o)
{
    const int32_t c = o * r->each;
    const int n = r->shift[c];
    const int64_t y = floored((int64_t)acc * r->m0[c] + ((int64_t)1 << (n - 1)), n);
    return clipped(y + r->after, r->lo[c], r->hi[c]);
}
""",
    "gemmlowp": """
/* A saturating left shift where n < 31, a doubling high product, a rounding right shift */
static uint8_t code(int32_t acc, const struct rule *r, int32_t o)
{
    const int32_t c = o * r->each;
    const int left = r->shift[c] < 31 ? 31 - r->shift[c] : 0;
    const int right = r->shift[c] > 31 ? r->shift[c] - 31 : 0;
    int64_t v = (int64_t)acc * ((int64_t)1 << left);
    v = v < INT32_MIN ? INT32_MIN : v > INT32_MAX ? INT32_MAX : v;
    v *= r->m0[c];
    v = (v + (v >= 0 ? (int32_t)1 << 30 : 1 - ((int32_t)1 << 30))) / ((int64_t)1 << 31);
    v = away(v + r->before * ((int64_t)1 << right), right);
    return clipped(v + r->after, r->lo[c], r->hi[c]);
}
""",
    "float": """
static uint8_t code(int32_t acc, const struct rule *r, int32_t o)
{
    const int32_t c = o * r->each;
    volatile float t = (float)acc * r->factor[c];
    t = t + (float)r->before;
    return clipped(even(t) + r->after, r->lo[c], r->hi[c]);
}
""",
}

CONV = """
/* x (C, H, W), weight (O, C / groups, KH, KW); around the map lies its zero point */
struct conv {
    const int8_t *weight;
    const int32_t *offset;
    int32_t c, h, w, o, kh, kw, sh, sw, ph, pw, ho, wo, groups, zero_point;
    struct rule rule;
};

static int32_t conv_sum(const uint8_t *x, const struct conv *s, int32_t o, int32_t i, int32_t j)
{
    const int32_t each = s->c / s->groups, first = o / (s->o / s->groups) * each;
    const int8_t *w = s->weight + o * each * s->kh * s->kw;
    int32_t sum = s->offset[o], c, a, b;
    for (c = first; c < first + each; c++)
        for (a = i * s->sh - s->ph; a < i * s->sh - s->ph + s->kh; a++)
            for (b = j * s->sw - s->pw; b < j * s->sw - s->pw + s->kw; b++) {
                const int in = a >= 0 && a < s->h && b >= 0 && b < s->w;
                sum += *w++ * (in ? x[(c * s->h + a) * s->w + b] : s->zero_point);
            }
    return sum;
}
"""

CONV_CODES = """
static void conv(const uint8_t *x, const struct conv *s, uint8_t *y)
{
    int32_t o, i, j;
    for (o = 0; o < s->o; o++)
        for (i = 0; i < s->ho; i++)
            for (j = 0; j < s->wo; j++) *y++ = code(conv_sum(x, s, o, i, j), &s->rule, o);
}
"""

CONV_SUMS = """
static void conv_sums(const uint8_t *x, const struct conv *s, int32_t *y)
{
    int32_t o, i, j;
    for (o = 0; o < s->o; o++)
        for (i = 0; i < s->ho; i++)
            for (j = 0; j < s->wo; j++) *y++ = conv_sum(x, s, o, i, j);
}
"""

LINEAR = """
/* x (I), weight (O, I) */
struct linear {
    const int8_t *weight;
    const int32_t *offset;
    int32_t i, o;
    struct rule rule;
};

static int32_t linear_sum(const uint8_t *x, const struct linear *s, int32_t o)
{
    const int8_t *w = s->weight + o * s->i;
    int32_t sum = s->offset[o], k;
    for (k = 0; k < s->i; k++) sum += w[k] * x[k];
    return sum;
}
"""

LINEAR_CODES = """
static void linear(const uint8_t *x, const struct linear *s, uint8_t *y)
{
    int32_t o;
    for (o = 0; o < s->o; o++) y[o] = code(linear_sum(x, s, o), &s->rule, o);
}
"""

LINEAR_SUMS = """
static void linear_sums(const uint8_t *x, const struct linear *s, int32_t *y)
{
    int32_t o;
    for (o = 0; o < s->o; o++) y[o] = linear_sum(x, s, o);
}
"""

POOL = """
/* Windows of (KH, KW) on each channel of x (C, H, W) */
struct pool {
    int32_t c, h, w, kh, kw, sh, sw, ph, pw, ho, wo, zero_point;
    struct rule rule;
};
"""

MAX_POOL = """
static uint8_t largest(const uint8_t *x, const struct pool *s, int32_t i, int32_t j)
{
    uint8_t most = 0;
    int32_t a, b;
    for (a = i * s->sh - s->ph; a < i * s->sh - s->ph + s->kh; a++)
        for (b = j * s->sw - s->pw; b < j * s->sw - s->pw + s->kw; b++)
            if (a >= 0 && a < s->h && b >= 0 && b < s->w && x[a * s->w + b] > most)
                most = x[a * s->w + b];
    return most;
}

static void max_pool(const uint8_t *x, const struct pool *s, uint8_t *y)
{
    int32_t c, i, j;
    for (c = 0; c < s->c; c++, x += s->h * s->w)
        for (i = 0; i < s->ho; i++)
            for (j = 0; j < s->wo; j++) *y++ = largest(x, s, i, j);
}
"""

POOL_SUM = """
/* The sum of a window less its zero points; padding counts as 0 */
static int32_t pool_sum(const uint8_t *x, const struct pool *s, int32_t i, int32_t j)
{
    int32_t sum = 0, a, b;
    for (a = i * s->sh - s->ph; a < i * s->sh - s->ph + s->kh; a++)
        for (b = j * s->sw - s->pw; b < j * s->sw - s->pw + s->kw; b++)
            if (a >= 0 && a < s->h && b >= 0 && b < s->w) sum += x[a * s->w + b] - s->zero_point;
    return sum;
}
"""

AVG_POOL_CODES = """
static void avg_pool(const uint8_t *x, const struct pool *s, uint8_t *y)
{
    int32_t c, i, j;
    for (c = 0; c < s->c; c++, x += s->h * s->w)
        for (i = 0; i < s->ho; i++)
            for (j = 0; j < s->wo; j++) *y++ = code(pool_sum(x, s, i, j), &s->rule, 0);
}
"""

AVG_POOL_SUMS = """
static void avg_pool_sums(const uint8_t *x, const struct pool *s, int32_t *y)
{
    int32_t c, i, j;
    for (c = 0; c < s->c; c++, x += s->h * s->w)
        for (i = 0; i < s->ho; i++)
            for (j = 0; j < s->wo; j++) *y++ = pool_sum(x, s, i, j);
}
"""

ADD_STEP = {
    "single": """
/* Sums of codes of several grids: each less its zero point, times m[k] 2^-shift */
struct add {
    const int32_t *m, *zero;
    int32_t inputs, size, zero_point;
    int shift;
    uint8_t lo, hi;
};
""",
    "float": """
/* Sums of codes of several grids: each less its zero point, times factor[k] */
struct add {
    const float *factor;
    const int32_t *zero;
    int32_t inputs, size, zero_point;
    uint8_t lo, hi;
};
""",
}
ADD_STEP["gemmlowp"] = ADD_STEP["single"]

_ADD = """
static void add(const uint8_t *const *x, const struct add *s, uint8_t *y)
{
    int32_t i, k;
    for (i = 0; i < s->size; i++) {
        int64_t sum = 0;
        for (k = 0; k < s->inputs; k++) sum += (x[k][i] - s->zero[k]) * (int64_t)s->m[k];
        sum = %s;
        y[i] = clipped(sum + s->zero_point, s->lo, s->hi);
    }
}
"""

ADD = {
    "single": _ADD % "floored(sum + ((int64_t)1 << (s->shift - 1)), s->shift)",
    "gemmlowp": _ADD % "away(sum, s->shift)",
    "float": """
static void add(const uint8_t *const *x, const struct add *s, uint8_t *y)
{
    int32_t i, k;
    for (i = 0; i < s->size; i++) {
        volatile float sum = 0.0f;
        for (k = 0; k < s->inputs; k++) {
            volatile float t = (float)(x[k][i] - s->zero[k]) * s->factor[k];
            sum = sum + t;
        }
        y[i] = clipped(even(sum) + s->zero_point, s->lo, s->hi);
    }
}
""",
}

LOOK_UP = """
static void look_up(const uint8_t *x, int32_t size, const uint8_t *table, uint8_t *y)
{
    int32_t i;
    for (i = 0; i < size; i++) y[i] = table[x[i]];
}
"""

SHUFFLE = """
/* Channels (g, k) of x to (k, g), maps of `size` pixels */
static void shuffle(const uint8_t *x, int32_t groups, int32_t each, int32_t size, uint8_t *y)
{
    int32_t g, k, i;
    for (k = 0; k < each; k++)
        for (g = 0; g < groups; g++)
            for (i = 0; i < size; i++) *y++ = x[(g * each + k) * size + i];
}
"""

WHOLE = """
static void whole(const uint8_t *x, int32_t size, int32_t zero_point, int32_t *y)
{
    int32_t i;
    for (i = 0; i < size; i++) y[i] = x[i] - zero_point;
}
"""

# In the order of a file; where it is a dict, by rounding.
TEXTS: dict[str, str | dict[str, str]] = {
    "RULE": RULE, "CLIPPED": CLIPPED, "FLOORED": FLOORED, "AWAY": AWAY, "EVEN": EVEN, "CODE": CODE,
    "CONV": CONV, "CONV_CODES": CONV_CODES, "CONV_SUMS": CONV_SUMS,
    "LINEAR": LINEAR, "LINEAR_CODES": LINEAR_CODES, "LINEAR_SUMS": LINEAR_SUMS,
    "POOL": POOL, "MAX_POOL": MAX_POOL, "POOL_SUM": POOL_SUM, "AVG_POOL_CODES": AVG_POOL_CODES,
    "AVG_POOL_SUMS": AVG_POOL_SUMS, "ADD_STEP": ADD_STEP, "ADD": ADD, "LOOK_UP": LOOK_UP,
    "SHUFFLE": SHUFFLE, "WHOLE": WHOLE,
}
