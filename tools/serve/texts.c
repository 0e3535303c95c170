// SPDX-License-Identifier: Apache-2.0
// Routes about text alone: /tokenize, /detokenize, /apply-template; and embeddings, which are refused.
#include <stdlib.h>
#include <string.h>

#include "tools/serve/serve.h"

enum { MOST_TOKENS = 262144 };

static json_t *token_list(const struct graft_model *model, const int32_t *ids, size_t count, bool pieces)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        char text[512];
        size_t length = 0;
        json_t *id = json_integer(ids[i]);
        if (pieces) {
            bool ok = graft_detokenize(model, &ids[i], 1, true, text, sizeof text, &length) == GRAFT_OK;
            id = json_pack("{s:o, s:o}", "id", id, "piece", json_text(text, ok ? length : 0));
        }
        if (json_array_append_new(list, id) != 0) { // no memory: no list rather than one with holes
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

void serve_tokenize(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error = {0};
    json_t *body = serve_body(server, exchange);
    if (!body) {
        return;
    }
    const json_t *content = body_member(body, "content") ? body_member(body, "content") : body_member(body, "prompt");
    bool bos = body_member(body, "prompt") != NULL, special = true, pieces = false;
    bool ok = body_bool(body, "add_special", &bos, &error) && body_bool(body, "add_special_tokens", &bos, &error) &&
              body_bool(body, "parse_special", &special, &error) && body_bool(body, "with_pieces", &pieces, &error);
    ok = ok && (json_is_string(content) || api_bad(&error, "content", "content must be a text"));
    int32_t *ids = NULL;
    size_t count = 0;
    if (ok) {
        size_t room = json_string_length(content) + 2; // no token is empty
        ids = try_memory(room, sizeof *ids);
        enum graft_status status = ids ? graft_tokenize(server->session.model, json_string_value(content),
                                                        json_string_length(content), special, bos, ids, room, &count)
                                       : GRAFT_OK;
        ok = !ids ? api_no_memory(&error) : status == GRAFT_OK || api_bad(&error, "content", "%.500s", graft_last_error());
    }
    if (ok) {
        http_reply_json(exchange, 200,
                        json_pack("{s:o, s:I, s:I}", "tokens", token_list(server->session.model, ids, count, pieces), "count",
                                  (json_int_t)count, "max_model_len", (json_int_t)server->limits.n_ctx));
    } else {
        serve_refuse(server, exchange, &error);
    }
    free(ids);
    json_decref(body);
}

void serve_detokenize(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error = {0};
    json_t *body = serve_body(server, exchange);
    if (!body) {
        return;
    }
    const json_t *tokens = body_member(body, "tokens");
    size_t n = json_array_size(tokens), length = 0;
    bool ok = (json_is_array(tokens) && n <= MOST_TOKENS) ||
              api_bad(&error, "tokens", "tokens must be an array of at most %d ids", MOST_TOKENS);
    int32_t *ids = ok ? try_memory(n, sizeof *ids) : NULL;
    ok = ok && (ids || api_no_memory(&error));
    for (size_t i = 0; i < n && ok; i++) {
        const json_t *id = json_array_get(tokens, i);
        ok = (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < server->limits.n_vocab) ||
             api_bad(&error, "tokens", "tokens[%zu] is no token id; the vocabulary has 0 to %u", i, server->limits.n_vocab - 1);
        ids[i] = ok ? (int32_t)json_integer_value(id) : 0;
    }
    char *text = NULL;
    if (ok) {
        enum graft_status status = graft_detokenize(server->session.model, ids, n, true, NULL, 0, &length);
        text = try_memory(length + 1, 1);
        if (text && status == GRAFT_E_LIMIT) {
            status = graft_detokenize(server->session.model, ids, n, true, text, length, &length);
        }
        ok = !text ? api_no_memory(&error) : status == GRAFT_OK || api_bad(&error, "tokens", "%.500s", graft_last_error());
    }
    if (ok) {
        json_t *clean = json_text(text, length);
        http_reply_json(exchange, 200, json_pack("{s:O, s:o}", "content", clean, "prompt", clean));
    } else {
        serve_refuse(server, exchange, &error);
    }
    free(text);
    free(ids);
    json_decref(body);
}

void serve_apply_template(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct api_error error = {0};
    json_t *body = serve_body(server, exchange);
    if (!body) {
        return;
    }
    struct ask ask = {.body = body, .chat = true};
    char *text = NULL, *variables = NULL;
    size_t length = 0;
    bool ok = server->limits.format || api_fail(&error, 400, "no_chat_template", "messages", "the model has no chat template");
    ok = ok && ask_tools(&ask, &server->limits, &error) && ask_variables(&ask, &server->limits, &variables, &error);
    if (ok) {
        enum graft_status status = graft_render(server->session.model, NULL, variables, &text, &length);
        ok = status == GRAFT_OK ||
             api_bad(&error, "messages", "the chat template refuses the messages: %.500s", graft_last_error());
    }
    if (ok) {
        http_reply_json(exchange, 200, json_pack("{s:o}", "prompt", json_text(text, length)));
    } else {
        serve_refuse(server, exchange, &error);
    }
    graft_text_free(server->session.model, &text);
    graft_ctx_text_free(server->session.ctx, &variables);
    ask_free(&ask);
}

void serve_embeddings(struct http_exchange *exchange, void *user)
{
    struct api_error error = {0};
    api_fail(&error, 501, "not_implemented", NULL, "embeddings are not implemented");
    serve_refuse(user, exchange, &error);
}
