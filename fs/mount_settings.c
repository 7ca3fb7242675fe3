#include "fs/mount_settings.h"

CONFIG_IMPLEMENT(mount_settings, "mount", MOUNT_SETTINGS)
