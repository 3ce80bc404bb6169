"""The C99 of a binary program's instructions, beside those of c99_kernels.py.

Bits lie eight a byte, the channels of a pixel from a byte on, channel k in bit k % 8 of byte k / 8,
1 for +1; maps (H, W, bytes), a flattened one the same bytes. A linear layer is a convolution whose
window is the map. Sums are not kept: each becomes a bit when it is there. Every function gives the
bits of its reference in minicomp/kernels/bits.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..deploy.binary import XNOR, map_of
from ..deploy.grids import SIGNS
from ..deploy.integer import Instruction
from ..tensor import Array

BYTE = 8  # bits

LIMITS = """
/* A sum of output channel o is +1 from at[o] on, or, where below[o], up to it */
struct limits {
    const int32_t *at;
    const uint8_t *below;
};

/* Puts the sign of a sum of channel o into the bits of a pixel, channels in their order */
static void put(uint8_t *y, const struct limits *t, int32_t o, int32_t sum)
{
    const int bit = t->below[o] ? sum <= t->at[o] : sum >= t->at[o];
    if (o % 8 == 0) y[o / 8] = 0;
    y[o / 8] |= (uint8_t)(bit << (o % 8));
}
"""

CONV_BITS = """
static void conv_bits(const uint8_t *x, const struct conv *s, const struct limits *t, uint8_t *y)
{
    int32_t o, i, j;
    for (i = 0; i < s->ho; i++)
        for (j = 0; j < s->wo; j++, y += (s->o + 7) / 8)
            for (o = 0; o < s->o; o++) put(y, t, o, conv_sum(x, s, o, i, j));
}
"""

LINEAR_BITS = """
static void linear_bits(const uint8_t *x, const struct linear *s, const struct limits *t,
                        uint8_t *y)
{
    int32_t o;
    for (o = 0; o < s->o; o++) put(y, t, o, linear_sum(x, s, o));
}
"""

XNOR_STEP = """
/* x (H, W, bytes of C), weight (O, KH, KW, bytes of C), bits of +1 and -1; around the map lies 0 */
struct xnor {
    const uint8_t *weight;
    int32_t c, h, w, o, kh, kw, sh, sw, ph, pw, ho, wo;
};

static int32_t xnor_sum(const uint8_t *x, const struct xnor *s, int32_t o, int32_t i, int32_t j)
{
    static const uint8_t ones[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
    const int32_t each = (s->c + 7) / 8;
    const uint8_t *w = s->weight + o * each * s->kh * s->kw;
    int32_t signs = 0, differ = 0, a, b, k;
    for (a = i * s->sh - s->ph; a < i * s->sh - s->ph + s->kh; a++)
        for (b = j * s->sw - s->pw; b < j * s->sw - s->pw + s->kw; b++, w += each) {
            if (a < 0 || a >= s->h || b < 0 || b >= s->w) continue;
            signs += s->c;
            for (k = 0; k < each; k++) {
                const uint8_t d = x[(a * s->w + b) * each + k] ^ w[k];
                differ += ones[d & 15] + ones[d >> 4];
            }
        }
    return signs - 2 * differ;
}
"""

XNOR_BITS = """
static void xnor_bits(const uint8_t *x, const struct xnor *s, const struct limits *t, uint8_t *y)
{
    int32_t o, i, j;
    for (i = 0; i < s->ho; i++)
        for (j = 0; j < s->wo; j++, y += (s->o + 7) / 8)
            for (o = 0; o < s->o; o++) put(y, t, o, xnor_sum(x, s, o, i, j));
}
"""

XNOR_SUMS = """
static void xnor_sums(const uint8_t *x, const struct xnor *s, int32_t *y)
{
    int32_t o;
    for (o = 0; o < s->o; o++) y[o] = xnor_sum(x, s, o, 0, 0);
}
"""

SIGNED_SUMS = """
/* x: bits of `c` channels of each of `pixels`; weight (o, pixels, c) */
static void signed_sums(const uint8_t *x, const int8_t *w, int32_t pixels, int32_t c, int32_t o,
                        int32_t *y)
{
    int32_t m, p, k;
    for (m = 0; m < o; m++) {
        int32_t sum = 0;
        for (p = 0; p < pixels; p++)
            for (k = 0; k < c; k++, w++)
                sum += x[p * ((c + 7) / 8) + k / 8] >> (k % 8) & 1 ? *w : -*w;
        y[m] = sum;
    }
}
"""

OR_POOL = """
/* The largest sign of each window of x (H, W, each), or the least where `lowest` is set */
struct or_pool {
    const uint8_t *lowest;
    int32_t each, h, w, kh, kw, sh, sw, ph, pw, ho, wo;
};

static uint8_t joined(const uint8_t *x, const struct or_pool *s, int32_t i, int32_t j, int32_t k)
{
    uint8_t found = 0;
    int32_t a, b;
    for (a = i * s->sh - s->ph; a < i * s->sh - s->ph + s->kh; a++)
        for (b = j * s->sw - s->pw; b < j * s->sw - s->pw + s->kw; b++)
            if (a >= 0 && a < s->h && b >= 0 && b < s->w)
                found |= x[(a * s->w + b) * s->each + k] ^ s->lowest[k];
    return found ^ s->lowest[k];
}

static void or_pool(const uint8_t *x, const struct or_pool *s, uint8_t *y)
{
    int32_t i, j, k;
    for (i = 0; i < s->ho; i++)
        for (j = 0; j < s->wo; j++)
            for (k = 0; k < s->each; k++) *y++ = joined(x, s, i, j, k);
}
"""

# In the order of a file, behind those of c99_kernels.py.
TEXTS = {"LIMITS": LIMITS, "CONV_BITS": CONV_BITS, "LINEAR_BITS": LINEAR_BITS,
         "XNOR_STEP": XNOR_STEP, "XNOR_BITS": XNOR_BITS, "XNOR_SUMS": XNOR_SUMS,
         "SIGNED_SUMS": SIGNED_SUMS, "OR_POOL": OR_POOL}

# What a run's sums mean, a function of the program's own.
LOGITS = """
void {prefix}_logits(const int32_t *sums, float *logits)
{{
    int32_t o;
    for (o = 0; o < {guard}_OUTPUTS; o++) {{
        volatile float y = (float)sums[o] * {prefix}_scale[o];
        y = y * {prefix}_gain[o];
        logits[o] = y + {prefix}_bias[o];
    }}
}}
"""


def fused(instructions: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
    """Returns the instructions, sums and their signs as one: "conv_bits", "linear_bits"."""
    made: list[Instruction] = []
    for i in instructions:
        if i.kind == "sign":
            sums = made.pop()
            i = replace(sums, name=i.name, kind=f"{sums.kind}_bits", grid=SIGNS,
                        arrays=sums.arrays | i.arrays)
        made.append(i)
    return tuple(made)


def bytes_of(i: Instruction, instructions: tuple[Instruction, ...]) -> int:
    """Returns how many bytes the value of an instruction takes."""
    if i.grid is not SIGNS:
        return math.prod(i.shape)
    c, *size = map_of(i.name, instructions)
    return math.prod(size) * (-(-c // BYTE))


def packed(signs: Array) -> Array:
    """Returns bits, eight a byte, of the last axis, 1 where above 0, uint8."""
    return np.packbits(signs > 0, axis=-1, bitorder="little")


# ------------------------------------------------------------------- of c99._Text, as its methods


def sums_to_bits(text, i: Instruction) -> None:
    """Adds a first layer, whose sums become bits."""
    kind = i.kind.removesuffix("_bits")
    label = text.label(i)
    fields = text.product_fields(i, label)
    text.parts |= {"RULE", kind.upper(), "LIMITS", i.kind.upper()}
    text.call(i.kind, text.places[i.inputs[0]], text.step(kind, label, fields),
              limits(text, label, i), text.places[i.name])


def xnor(text, i: Instruction) -> None:
    """Adds a product of signs."""
    label, source = text.label(i), text.maps(i.inputs[0])
    q, (o, *_) = i.arrays["weight"], i.shape
    if i.kind == "xnor_conv":
        fields = text.window(i)
    else:
        c, h, w = source if len(source) == 3 else (*source, 1, 1)
        q = q.reshape(o, c, h, w)
        fields = {"c": c, "h": h, "w": w, "kh": h, "kw": w, "sh": 1, "sw": 1, "ph": 0, "pw": 0,
                  "ho": 1, "wo": 1}
    weight = text.array(label, "weight", packed(q.transpose(0, 2, 3, 1)))
    step = text.step("xnor", label, {"weight": weight, "o": o} | fields)
    bits = [limits(text, label, i)] if i.grid is SIGNS else []
    text.parts |= {"XNOR_STEP", *(["LIMITS", "XNOR_BITS"] if bits else ["XNOR_SUMS"])}
    text.call("xnor_bits" if bits else "xnor_sums", text.places[i.inputs[0]], step, *bits,
              text.places[i.name])


def planes(text, i: Instruction) -> None:
    """Adds a product of signs and integers."""
    c, *size = text.maps(i.inputs[0])
    q = i.arrays["weight"].reshape(i.shape[0], c, -1).transpose(0, 2, 1)
    text.parts.add("SIGNED_SUMS")
    text.call("signed_sums", text.places[i.inputs[0]],
              text.array(text.label(i), "weight", np.ascontiguousarray(q)), math.prod(size), c,
              i.shape[0], text.places[i.name])


def or_pool(text, i: Instruction) -> None:
    """Adds a maximum of signs."""
    label, lowest = text.label(i), packed(i.arrays["lowest"])
    fields = text.window(i) | {"lowest": text.array(label, "lowest", lowest), "each": len(lowest)}
    del fields["c"]
    text.parts.add("OR_POOL")
    text.call("or_pool", text.places[i.inputs[0]], text.step("or_pool", label, fields),
              text.places[i.name])


def limits(text, label: str, i: Instruction) -> str:
    """Returns the address of an instruction's thresholds."""
    t = i.arrays["thresholds"]
    fields = {"at": text.array(label, "at", t.at),
              "below": text.array(label, "below", t.below.astype(np.uint8))}
    return text.step("limits", f"{label}_at", fields)


CALLS = {"conv_bits": sums_to_bits, "linear_bits": sums_to_bits, "planes": planes,
         "or_pool": or_pool, **dict.fromkeys(XNOR[:2], xnor)}
