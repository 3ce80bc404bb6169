/* Ends a rung of tile.h: what gemm.h defined for it is free for the next. */
#undef FN
#undef TARGET
#undef PARTS
#undef MAX_NV
#undef MAX_MR
#undef V_A
#undef V_B
#undef V_ACC
#undef V_ZERO
#undef V_SET_A
#undef V_LOAD_B
#undef V_ADD
#undef V_DOT
#undef V_PUT
