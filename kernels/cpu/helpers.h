// Who shares the pieces of a job: `share` of helpers.cpp, of which there is one for all loops.
#pragma once
#include "loops.h"

typedef void (*share_t)(void (*run)(void *, size), void *job, size n, int most);

// run(i) for all i below n, in any order, by at most `most` threads.
template <class Run>
static void shared(share_t share, size n, int most, Run run) {
    share([](void *job, size i) { (*(Run *)job)(i); }, &run, n, most);
}
