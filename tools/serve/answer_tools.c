// SPDX-License-Identifier: Apache-2.0
// Tool calls in answers: what the parser of graft/tools.h tells becomes members of the message, or deltas of a stream.
#include <stdlib.h>
#include <string.h>

#include "tools/serve/jobs.h"

// Of a call that has no id of the model's own: the same in every piece of the answer.
static void make_id(const struct job *job, uint32_t index, char id[GRAFT_TOOL_ID_BYTES])
{
    uint64_t hash = 0xcbf29ce484222325u; // FNV-1a
    for (const char *p = job->id; *p; p++) {
        hash = (hash ^ (uint8_t)*p) * 0x100000001b3u;
    }
    hash ^= job->begun_ns * 0x9e3779b97f4a7c15u;
    snprintf(id, GRAFT_TOOL_ID_BYTES, "call_%016llx%03u", (unsigned long long)hash, index);
}

// {"index", "id", "type", "function": {"name", "arguments": ""}}, the index only in streams.
static void out_call(struct job *job, struct out *out, const struct graft_tool_event *event)
{
    char id[GRAFT_TOOL_ID_BYTES];
    make_id(job, event->index, id);
    const char *shown = *event->id ? event->id : id;
    out_bytes(out, "{", 1);
    if (job->ask.stream) {
        out_format(out, "\"index\":%u,", event->index);
    }
    out_bytes(out, "\"id\":", 5);
    out_json(out, shown, strlen(shown));
    out_bytes(out, ",\"type\":\"function\",\"function\":{\"name\":", 38);
    out_json(out, event->name, strlen(event->name));
    out_bytes(out, ",\"arguments\":", 13);
}

static void end_call(struct job *job)
{
    if (job->in_call && !job->ask.stream) {
        out_json(&job->calls, job->arguments.data ? job->arguments.data : "", job->arguments.length);
        out_bytes(&job->calls, "}}", 2);
    }
    job->in_call = false;
}

static void begin_call(struct job *job, const struct graft_tool_event *event)
{
    job->in_call = true;
    job->n_calls++;
    job->arguments.length = 0;
    if (job->ask.stream) {
        chunk_begin(job, "{\"index\":0,\"delta\":{\"tool_calls\":[");
        out_call(job, &job->chunk, event);
        out_bytes(&job->chunk, "\"\"}}]}", 6);
        chunk_finish(job);
        job_write(job);
    } else {
        out_bytes(&job->calls, ",", event->index > 0);
        out_call(job, &job->calls, event);
    }
}

static void add_arguments(struct job *job, const struct graft_tool_event *event)
{
    if (job->ask.stream) {
        chunk_begin(job, "{\"index\":0,\"delta\":{\"tool_calls\":[");
        out_format(&job->chunk, "{\"index\":%u,\"function\":{\"arguments\":", event->index);
        out_json(&job->chunk, event->text, event->length);
        out_bytes(&job->chunk, "}}]}", 4);
        chunk_finish(job);
        job_write(job);
    } else {
        out_bytes(&job->arguments, event->text, event->length);
    }
}

static void on_event(void *user, const struct graft_tool_event *event)
{
    struct job *job = user;
    switch (event->kind) {
    case GRAFT_TOOL_TEXT:
        if (job->ask.stream && job->streaming) {
            chunk_text(job, event->text, event->length);
            job_write(job);
        } else if (!job->ask.stream) {
            out_bytes(&job->text, event->text, event->length);
        }
        break;
    case GRAFT_TOOL_CALL:
        begin_call(job, event);
        break;
    case GRAFT_TOOL_ARGUMENTS:
        add_arguments(job, event);
        break;
    case GRAFT_TOOL_CALL_END:
        end_call(job);
    }
}

bool tools_begin(struct job *job)
{
    return !job->ask.calls || graft_tool_parser_create(job->ask.tools, &job->parser, on_event, job) == GRAFT_OK;
}

bool tools_hear(struct job *job, const char *text, size_t length)
{
    bool enough = false;
    if (graft_tool_parser_push(job->parser, text, length, &enough) != GRAFT_OK) {
        return false;
    }
    job->enough = job->enough || enough;
    return true;
}

bool tools_end(struct job *job, const char *text, size_t length)
{
    uint32_t calls;
    bool ok = tools_hear(job, text, length) && graft_tool_parser_end(job->parser, &calls) == GRAFT_OK;
    end_call(job); // one that is not whole
    return ok;
}
