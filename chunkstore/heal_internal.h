#pragma once
/* heal_internal: shared by the files of healing only. */
#include "chunkstore/heal.h"

/* False: one is running, or there is no map yet. */
bool heal_sync_start(struct heal *heal);
void heal_sync_stop(struct heal *heal);
/* A server was reached, or was not. */
void heal_note_reached(struct heal *heal, uint32_t server, bool reached);
/* It has not been for HEAL_GIVE_UP_NS. */
bool heal_given_up(const struct heal *heal, uint32_t server);
void heal_scrub_start(struct heal *heal);
void heal_scrub_stop(struct heal *heal);
