#ifndef REAPER_POLICY_HALF_H
#define REAPER_POLICY_HALF_H

/* The words of a session: legs, halves, and how they lie to each other.
 *
 *               request half  ------------------------------>
 *   client ==[ LEG_CLIENT ]==  session  ==[ LEG_BACKEND ]== backend
 *               <------------------------------ response half
 *
 * A leg is one socket, a half is one direction. Each half has a source leg, from which its bytes and its FIN
 * are read, and a sink leg, to which they are written. */

enum leg { LEG_CLIENT, LEG_BACKEND, LEG_COUNT };
enum half { HALF_REQUEST, HALF_RESPONSE, HALF_COUNT };

static inline enum leg leg_other(enum leg leg)
{
    return leg == LEG_CLIENT ? LEG_BACKEND : LEG_CLIENT;
}

static inline enum half half_other(enum half half)
{
    return half == HALF_REQUEST ? HALF_RESPONSE : HALF_REQUEST;
}

static inline enum leg half_source(enum half half)
{
    return half == HALF_REQUEST ? LEG_CLIENT : LEG_BACKEND;
}

static inline enum leg half_sink(enum half half)
{
    return half == HALF_REQUEST ? LEG_BACKEND : LEG_CLIENT;
}

/* The half whose bytes come from this leg. */
static inline enum half half_from(enum leg leg)
{
    return leg == LEG_CLIENT ? HALF_REQUEST : HALF_RESPONSE;
}

/* The half whose bytes go to this leg. */
static inline enum half half_to(enum leg leg)
{
    return leg == LEG_CLIENT ? HALF_RESPONSE : HALF_REQUEST;
}

const char *leg_name(enum leg leg);    /* "client", "backend" */
const char *half_name(enum half half); /* "request", "response" */

#endif
