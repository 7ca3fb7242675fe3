#include "chunkstore/chunk_settings.h"

CONFIG_IMPLEMENT(chunk_settings, "chunk", CHUNK_SETTINGS)
