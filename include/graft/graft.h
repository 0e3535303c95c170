// SPDX-License-Identifier: Apache-2.0
// graft.h: the whole public API. See common.h (context, errors, budget), device.h, model.h (files, batches, text),
// adapter.h, chat.h, grammar.h.
//
// A complete program is examples/chat.c.
#ifndef GRAFT_H
#define GRAFT_H

#include "graft/adapter.h"
#include "graft/chat.h"
#include "graft/engine.h"
#include "graft/common.h"
#include "graft/device.h"
#include "graft/grammar.h"
#include "graft/model.h"

#endif
