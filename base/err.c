#include "base/err.h"

#include <errno.h>
#include <string.h>

static const struct {
    const char *name;
    int posix;
    const char *text;
} err_table[] = {
#define ERR_ROW(name, posix, text) {#name, posix, text},
    ERR_TABLE(ERR_ROW)
#undef ERR_ROW
};

static int err_row(int code)
{
    return -code > ERR_FIRST && -code < ERR_END ? -code - ERR_FIRST - 1 : -1;
}

const char *err_text(int code)
{
    int row = err_row(code);

    return row >= 0                 ? err_table[row].text
           : strerrordesc_np(-code) ? strerrordesc_np(-code)
                                    : "unknown error";
}

const char *err_name(int code)
{
    int row = err_row(code);

    return row >= 0 ? err_table[row].name : strerrorname_np(-code) ? strerrorname_np(-code) : "?";
}

int err_to_errno(int code)
{
    int row = err_row(code);

    if (row < 0) {
        return -code;
    }
    return err_table[row].posix != 0 ? err_table[row].posix : EIO;
}
