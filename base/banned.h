#pragma once
/* banned: force-included; what has a safer form here does not compile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#pragma GCC poison strcpy strcat sprintf vsprintf strtok gets rand srand gettimeofday
