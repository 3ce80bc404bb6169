"""Kernels of numbers of one bit, +1 and -1: 64 a word, products by XOR and counting.

Bit 1 is +1, bit 0 is -1, and sign(0) = +1. Bit k of a row is bit k mod 64 of word k // 64; bits
behind the last are 0. Maps are (N, H, W, words) uint64, contiguous: channels last, the channels of
each pixel begin a word.

The first layer of a binary net takes images of 8 bits. As the sum of eight planes of bits,
sum 2^n (x_n w), it would be eight products of this room; one product u8 x s8 of room int8, with
weights +1 and -1, is as exact and, from AVX2 on, mostly faster: `minicomp bench bits` has both, and
eight planes pay only where a product of signs is more than eight times as fast. Its int32 sums
become bits in `pack.pack_sums`.
"""
