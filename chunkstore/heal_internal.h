#pragma once
/* heal_internal: shared by the files of healing only. */
#include "chunkstore/heal.h"

/* False: one is running, or there is no map yet. */
bool heal_sync_start(struct heal *heal);
void heal_sync_stop(struct heal *heal);
void heal_scrub_start(struct heal *heal);
void heal_scrub_stop(struct heal *heal);
