// SPDX-License-Identifier: Apache-2.0
// How kernels see buffers. TEXEL: read-only inputs are uniform texel buffers, whose fetches software Vulkan turns into plain
// vector gathers (2 to 3 times cheaper there than storage buffer loads; measured, docs/performance.md); otherwise storage
// buffers.
//   WORDS(b, name)   read-only 32-bit words:    WORD(name, i) -> uint
//   QUADS(b, name)   read-only groups of four:  QUAD(name, i) -> uvec4
//   VEC4S(b, name)   read-only f32 fours:       VEC4(name, i) -> vec4
#ifdef TEXEL
#define WORDS(b, name) layout(binding = b) uniform utextureBuffer name;
#define QUADS(b, name) layout(binding = b) uniform utextureBuffer name;
#define VEC4S(b, name) layout(binding = b) uniform textureBuffer name;
#define WORD(name, i) texelFetch(name, int(i)).x
#define QUAD(name, i) texelFetch(name, int(i))
#define VEC4(name, i) texelFetch(name, int(i))
#else
#define WORDS(b, name) layout(binding = b, std430) readonly restrict buffer name##_buffer { uint name[]; };
#define QUADS(b, name) layout(binding = b, std430) readonly restrict buffer name##_buffer { uvec4 name[]; };
#define VEC4S(b, name) layout(binding = b, std430) readonly restrict buffer name##_buffer { vec4 name[]; };
#define WORD(name, i) name[i]
#define QUAD(name, i) name[i]
#define VEC4(name, i) name[i]
#endif

// Where the last workgroup of a kernel shrinks for the next step (lib/shrink.glsl): software Vulkan. Bindings are the same
// elsewhere, but nothing is written there.
#if defined(LORA) && defined(ONE_SUBGROUP)
#define LORA_FOLD
#endif
