/* Which instruction sets a kernel may use: decided at compile time by compiler and architecture (a
 * rung exists), and at run time by the processor (a rung runs). Included by every header in this
 * folder.
 *
 *   rung        level  asks for                               first seen in
 *   portable    1      C11                                    every processor
 *   popcnt      2      POPCNT                                 Nehalem 2008, Barcelona 2007
 *   avx2        3      AVX2, FMA                              Haswell 2013, Zen 2017
 *   avx512      4      AVX-512 F, BW, DQ, VL                  Skylake-X 2017, Zen 4 2022
 *   vnni        5      avx512 and VNNI (u8 x s8 dot products) Cascade Lake 2019, Zen 4
 *   vpopcntdq   6      vnni and VPOPCNTDQ (bits of 64 a lane) Ice Lake 2019, Zen 4
 *
 * A rung asks for all that the ones before it ask for. That the operating system saves the wide
 * registers is part of what __builtin_cpu_supports answers.
 *
 * A function of a rung carries its TARGET_ attribute instead of the file a -march flag: one binary
 * runs everywhere. MSVC has no such attribute, and arm64 no such instructions: both build the
 * portable rung.
 */
#ifndef MINICOMP_ISA_H
#define MINICOMP_ISA_H

enum { ISA_REF, ISA_PORTABLE, ISA_POPCNT, ISA_AVX2, ISA_AVX512, ISA_VNNI, ISA_VPOPCNTDQ };

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__) /* gcc and clang */
#define MINICOMP_X86 1
#include <immintrin.h>
#define TARGET_POPCNT __attribute__((target("popcnt")))
#define TARGET_AVX2 __attribute__((target("avx2,fma")))
#define TARGET_AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")))
#ifdef __clang__
#define TARGET_AVX512_WIDE TARGET_AVX512
#else /* loops that gcc vectorises stay at 8 lanes unless told */
#define TARGET_AVX512_WIDE __attribute__((target( \
    "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#endif
#define TARGET_VNNI \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define TARGET_VPOPCNTDQ \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq")))
#endif

/* A loop of at most 16 turns, a number known at compile time, that becomes straight code. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* A helper that must be inlined so that it becomes part of the rung that calls it. */
#if defined(__GNUC__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define RESTRICT __restrict__
#else
#define ALWAYS_INLINE static __forceinline
#define RESTRICT __restrict
#endif

/* The highest level that was compiled here and that this processor and its operating system run. */
static inline int isa_level(void) {
#ifdef MINICOMP_X86
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("popcnt")) return ISA_PORTABLE;
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return ISA_POPCNT;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
          && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")))
        return ISA_AVX2;
    if (!__builtin_cpu_supports("avx512vnni")) return ISA_AVX512;
    return __builtin_cpu_supports("avx512vpopcntdq") ? ISA_VPOPCNTDQ : ISA_VNNI;
#else
    return ISA_PORTABLE;
#endif
}

#endif
