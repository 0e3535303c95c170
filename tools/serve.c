// SPDX-License-Identifier: Apache-2.0
// graft serve and graft key, as far as every build has them: without libmicrohttpd they say what is missing.
#include "tools/tool.h"

#if defined(GRAFT_HAVE_HTTP)
#include "tools/serve/verbs.h"

int verb_SERVE(const struct options *options)
{
    return serve_main(options);
}

int verb_KEY(const struct options *options)
{
    return key_main(options);
}
#else
static int missing(void)
{
    error3("this graft cannot serve", "it was built where libmicrohttpd or GnuTLS was missing",
           "apt-get install libmicrohttpd-dev libgnutls28-dev, then build graft again");
    return EXIT_FAILED;
}

int verb_SERVE(const struct options *options)
{
    (void)options;
    return missing();
}

int verb_KEY(const struct options *options)
{
    (void)options;
    return missing();
}
#endif
