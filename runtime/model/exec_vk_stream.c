// SPDX-License-Identifier: Apache-2.0
// Running a plan whose layers are streamed, and what that takes.
#include "runtime/model/exec_vk.h"

enum { TIMED_TOKENS = 3 };

enum graft_status graft_exec_vk_run_streamed(struct exec_vk *e, const struct bucket *body, uint32_t state,
                                             struct graft_vk_commands *const *last, uint32_t n_last)
{
    struct graft_vk_stream *stream = e->weights.stream;
    enum graft_status status = graft_vk_stream_begin(stream);
    for (uint32_t s = 0; s < body->n_segments && status == GRAFT_OK; s++) {
        bool is_last = s + 1 == body->n_segments;
        status = graft_vk_stream_submit(stream, is_last ? last : &body->commands[state][s], is_last ? n_last : 1);
    }
    if (status == GRAFT_OK) {
        return graft_vk_stream_wait(stream);
    }
    if (status != GRAFT_E_DEVICE_LOST && graft_vk_stream_wait(stream) == GRAFT_E_DEVICE_LOST) {
        return GRAFT_E_DEVICE_LOST; // otherwise nothing is in flight any more
    }
    return status;
}

// The copies of one batch, with nothing that uses them.
static enum graft_status copy_alone(struct graft_vk_stream *stream, uint32_t n_units)
{
    GRAFT_TRY(graft_vk_stream_begin(stream));
    for (uint32_t u = 0; u < n_units; u++) {
        GRAFT_TRY(graft_vk_stream_submit(stream, NULL, 0));
    }
    return graft_vk_stream_settle(stream);
}

// A batch whose slots hold what they held before: values of no meaning, in the time that they take.
static enum graft_status compute_alone(struct exec_vk *e, const struct bucket *body, struct graft_vk_commands *head)
{
    enum { AT_ONCE = 16 };
    struct graft_vk_commands *list[AT_ONCE + 1];
    for (uint32_t s = 0; s < body->n_segments;) {
        uint32_t n = 0;
        for (; n < AT_ONCE && s < body->n_segments; s++) {
            list[n++] = body->commands[0][s];
        }
        if (s == body->n_segments) {
            list[n++] = head;
        }
        GRAFT_TRY(graft_vk_submit(e->vk, list, n));
    }
    return graft_vk_wait(e->vk);
}

static double since(uint64_t begin)
{
    return (double)(graft_clock_ns() - begin) * 1e-9;
}

enum graft_status graft_exec_vk_stream_times(struct graft_exec *exec, const struct graft_exec_batch *batch,
                                             struct graft_stream_times *out)
{
    struct exec_vk *e = (struct exec_vk *)exec;
    const struct bucket *body = &e->body[GRAFT_LORA_NONE][0];
    struct graft_vk_commands *head = e->head[GRAFT_LORA_NONE][0].commands[0][0];
    struct graft_vk_stream *stream = e->weights.stream;
    graft_state_fill(&e->plan->source->config, &e->limits, &e->layout, body->rows, batch, e->buffers.state[0]->mapped);
    GRAFT_TRY(graft_vk_stream_begin(stream));
    GRAFT_TRY(graft_vk_stream_settle(stream));
    uint64_t begin = graft_clock_ns();
    GRAFT_TRY(copy_alone(stream, body->n_segments));
    out->copy_s = since(begin);
    begin = graft_clock_ns();
    GRAFT_TRY(compute_alone(e, body, head));
    out->compute_s = since(begin);
    struct graft_vk_commands *last[2] = {body->commands[0][body->n_segments - 1], head};
    for (int i = 0; i <= TIMED_TOKENS; i++) { // the first one finds full slots
        begin = i == 1 ? graft_clock_ns() : begin;
        GRAFT_TRY(graft_exec_vk_run_streamed(e, body, 0, last, 2));
    }
    out->token_s = since(begin) / TIMED_TOKENS;
    e->state = 1; // as behind any batch
    e->n_out = 0;
    e->has_logits = false;
    return GRAFT_OK;
}
