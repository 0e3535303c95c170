// SPDX-License-Identifier: Apache-2.0
// The weight format of this variant: one -DFORMAT_<NAME>.
#if defined(FORMAT_q4_0)
#include "quant/q4_0.glsl"
#elif defined(FORMAT_q4_1)
#include "quant/q4_1.glsl"
#elif defined(FORMAT_q8_0)
#include "quant/q8_0.glsl"
#elif defined(FORMAT_q4_k)
#include "quant/q4_k.glsl"
#elif defined(FORMAT_q6_k)
#include "quant/q6_k.glsl"
#elif defined(FORMAT_f32)
#include "quant/f32.glsl"
#elif defined(FORMAT_f16)
#include "quant/f16.glsl"
#elif defined(FORMAT_bf16)
#include "quant/bf16.glsl"
#endif
