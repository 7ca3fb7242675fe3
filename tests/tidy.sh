#!/bin/bash
# tidy.sh - what the code must look like and no compiler checks: arrows between folders, one folder a
# library, sizes, markers, formatting. Prints each violation; exit 1 when there is one.
set -uo pipefail
cd "$(dirname "$0")/.."
bad=0

say() {
    echo "tidy: $*"
    bad=1
}

# ---- arrows: folder: folders and files it may include ----
declare -A may=(
    [base]='base/'
    [net]='base/ net/'
    [raft]='base/ net/ raft/'
    [chunkstore]='base/ net/ chunkstore/'
    [meta]='base/ net/ raft/ meta/ chunkstore/chunk_client.h chunkstore/chunk_proto.h chunkstore/placement.h'
    [fs]='base/ net/ fs/ meta/inode_flags.h meta/limits.h meta/lock_table.h meta/meta_client.h meta/meta_proto.h meta/namespace.h meta/record.h chunkstore/chunk_client.h chunkstore/chunk_proto.h chunkstore/placement.h'
    [cli]='base/ net/ raft/ chunkstore/ meta/ fs/ cli/'
)
while IFS=: read -r file include; do
    folder=${file%%/*}
    allowed=0
    for prefix in ${may[$folder]}; do
        case $include in "$prefix"*) allowed=1 ;; esac
    done
    [ $allowed = 1 ] || say "$file may not include $include"
done < <(grep -rHoE '^#include "[^"]+"' base net raft chunkstore meta fs cli --include='*.[ch]' | sed -E 's/#include "([^"]+)"/\1/')

# ---- private headers stay in their folder ----
while IFS=: read -r file include; do
    [ "${file%%/*}" = "${include%%/*}" ] || [ "${file%%/*}" = tests ] || say "$file includes private $include"
done < <(grep -rHoE '^#include "[^"]+_internal.h"' base net raft chunkstore meta fs cli --include='*.[ch]' | sed -E 's/#include "([^"]+)"/\1/')

# ---- one place a library ----
only() { # pattern, where it may stand
    grep -rlE "$1" base net raft chunkstore meta fs cli --include='*.[ch]' | grep -vE "$2" |
        while read -r file; do echo "$file"; done
}
while read -r hit; do say "$hit: libuv belongs in net/"; done < <(only '#include <uv.h>' '^net/')
while read -r hit; do say "$hit: OpenSSL belongs in net/"; done < <(only '#include <openssl/' '^net/')
while read -r hit; do say "$hit: libfuse belongs in fs/fuse_*"; done < <(only '#include <fuse' '^fs/fuse_')
while read -r hit; do say "$hit: zstd belongs in chunkstore/compress.c"; done < <(only '#include <zstd' '^chunkstore/compress.c')
while read -r hit; do say "$hit: cmocka belongs in tests/"; done < <(only 'cmocka.h' '^$')
while read -r hit; do say "$hit: threads belong in net/env_uv*"; done < <(only 'pthread_|_Atomic|stdatomic' '^net/env_uv')
while read -r hit; do say "$hit: malloc and free belong in base/mem.c"; done < <(only '[^_a-z.>](malloc|calloc|realloc|free)\(' '^base/mem.c')
while read -r hit; do say "$hit: clocks belong in net/env_uv.c"; done < <(only 'clock_gettime|clock_getres' '^net/env_uv.c')

# ---- sizes, markers ----
for file in $(git ls-files '*.c' '*.h'); do
    lines=$(wc -l <"$file")
    case $file in
    *.h) max=450 ;;
    *) max=1000 ;;
    esac
    [ "$lines" -le $max ] || say "$file has $lines lines (at most $max)"
    awk -v f="$file" 'length($0) > 100 && !/https?:/ { printf "tidy: %s:%d: %d columns\n", f, NR, length($0); bad = 1 } END { exit bad }' "$file" || bad=1
    awk -v f="$file" '/^[a-zA-Z_].*\)$/ { head = NR } /^\{/ { start = NR }
        /^\}/ && start { if (NR - start - 1 > 70) { printf "tidy: %s:%d: function of %d lines (at most 70)\n", f, start, NR - start - 1; bad = 1 } start = 0 }
        END { exit bad }' "$file" || bad=1
done
hits=$(git grep -nE '\b(TODO|FIXME|XXX|HACK)\b' -- '*.c' '*.h' 'mount-scripts/*' | grep -vE 'TODO\(#?[0-9]+\)' || true)
[ -z "$hits" ] || say "markers: $hits"

# ---- what can be set is documented ----
for name in $(sed -nE 's/^ +X\(uint(32|64)_t, +([a-z_0-9]+),.*/\2/p' -- */*_settings.h cli/config.h); do
    grep -qE "\| .$name. \|" docs/OPERATING.md || say "docs/OPERATING.md does not have the setting $name"
done

# ---- formatting, where the tool is ----
if command -v clang-format >/dev/null; then
    hits=$(git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror 2>&1 | grep -E 'error:' | head -n 20)
    [ -z "$hits" ] || say "formatting: $hits"
fi
[ $bad = 0 ] && echo "tidy: clean"
exit $bad
