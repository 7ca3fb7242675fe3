#include "meta/meta_settings.h"

CONFIG_IMPLEMENT(meta_settings, "meta", META_SETTINGS)
