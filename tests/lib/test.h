#pragma once
/* test: what every unit test includes: cmocka with its prerequisites, and small helpers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A fresh empty directory below $TMPDIR (or /tmp), removed by test_dir_remove. */
char *test_dir_make(void);
void test_dir_remove(char *path); /* frees path */
/* $SEED when set (decimal), else a fixed default; printed so that a failure can be repeated. */
uint64_t test_seed(uint64_t otherwise);
