// SPDX-License-Identifier: Apache-2.0
// graft.h: the whole public API. See common.h (context, errors, budget), device.h, model.h (files, batches, text),
// adapter.h, adapter_file.h, chat.h, engine.h, grammar.h, tools.h, merge.h, combine.h, signature.h.
//
// A complete program is examples/chat.c.
#ifndef GRAFT_H
#define GRAFT_H

#include "graft/adapter.h"
#include "graft/adapter_file.h"
#include "graft/chat.h"
#include "graft/combine.h"
#include "graft/common.h"
#include "graft/device.h"
#include "graft/engine.h"
#include "graft/grammar.h"
#include "graft/merge.h"
#include "graft/model.h"
#include "graft/signature.h"
#include "graft/tools.h"

#endif
