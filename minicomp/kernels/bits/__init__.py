"""Kernels of numbers of one bit, +1 and -1: 64 a word, products by XOR and counting.

Bit 1 is +1, bit 0 is -1, and sign(0) = +1. Bit k of a row is bit k mod 64 of word k // 64; bits
behind the last are 0. Maps are (N, H, W, words) uint64, contiguous: channels last, the channels of
each pixel begin a word.

The first layer of a binary net takes images of 8 bits. As the sum of eight planes of bits it would
be eight products of this room, an eighth of its rate; one product u8 x s8 of the room int8, with
weights +1 and -1, is faster on every rung, and exact too. Its int32 sums become bits in
`pack.pack_sums`.
"""
