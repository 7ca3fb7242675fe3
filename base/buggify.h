#pragma once
/*
 * buggify: what the code may do anyway, smaller, earlier, once more, made common in simulations.
 *
 *     if (BUGGIFY(env, 10)) {          10 times of 100, in runs and at places that the seed chose
 *         batch = 1;
 *     }
 *
 * Compiles to false unless KEELFS_SIM is defined, as it is for the objects of keelfs-sim.
 */
#include "base/env.h"

#ifdef KEELFS_SIM
/* Does this place misbehave now? Decided by tests/sim/sim_buggify.c. */
bool buggify(struct env *env, const char *file, int line, unsigned percent);
#define BUGGIFY(env, percent) buggify((env), __FILE__, __LINE__, (percent))
#else
#define BUGGIFY(env, percent) false
#endif
