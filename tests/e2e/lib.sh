# lib.sh: sourced by every end-to-end test: a throw-away cluster of real processes and real mounts.
#
#   KEELFS  the binary (default build/asan/keelfs)
#   WORK    where the test keeps everything; removed at the end unless KEEP=1
set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
KEELFS=${KEELFS:-$TOP/build/asan/keelfs}
TEST_NAME=${TEST_NAME:-$(basename "$0")}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/keelfs-e2e-$TEST_NAME.XXXXXX")
CONF=$WORK/cluster.conf
MNT=$WORK/mnt
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0}
PASSED=0
FAILED=0

ok() {
    PASSED=$((PASSED + 1))
    echo "ok - $TEST_NAME: $*"
}

not_ok() {
    FAILED=$((FAILED + 1))
    echo "not ok - $TEST_NAME: $*"
}

# check "what" command...: counts the command's success.
check() {
    local what=$1
    shift
    if "$@" >"$WORK/check.log" 2>&1; then
        ok "$what"
    else
        not_ok "$what (exit $?)"
        tail -n 20 "$WORK/check.log" | sed 's/^/    /'
    fi
}

# wait_until SECONDS command...: polls a condition; no blind sleeps.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

pid_of() { cat "$WORK/run/$1.pid" 2>/dev/null; }

start_cluster() { "$KEELFS" demo --servers "$WORK"; }

# mount_at DIR [options]: one more mount of the cluster.
mount_at() {
    local dir=$1 name
    name=$(basename "$dir")
    shift
    mkdir -p "$dir"
    "$KEELFS" mount --log "$WORK/log/$name.log" --pid-file "$WORK/run/$name.pid" "$@" "$CONF" "$dir"
}

umount_at() {
    local name
    name=$(basename "$1")
    umount "$1"
    wait_until 30 test ! -e "$WORK/run/$name.pid"
}

start_server() { # meta|chunk N
    "$KEELFS" "${1}d" --config "$CONF" --id "$2" --log "$WORK/log/$1$2.log" \
        --pid-file "$WORK/run/$1$2.pid" --background
}

kill9() { # meta1 ...
    local pid
    pid=$(pid_of "$1")
    kill -9 "$pid"
    wait_until 10 test ! -d "/proc/$pid"
}

status_json() { "$KEELFS" status -c "$CONF" --json; }

leader() { status_json | python3 -c 'import json,sys; print(json.load(sys.stdin).get("leader", ""))'; }

healthy() { "$KEELFS" status -c "$CONF" >/dev/null; }

stop_cluster() {
    local mountpoint pid
    for mountpoint in $(awk -v w="$WORK/" 'index($2, w) == 1 && $3 == "fuse.keelfs" { print $2 }' /proc/self/mounts); do
        umount "$mountpoint" 2>/dev/null || umount -l "$mountpoint" || true
    done
    "$KEELFS" demo --stop "$WORK" || true
}

# What a sanitizer or an assertion said in any log of this test.
complaints() {
    grep -lE 'ERROR: AddressSanitizer|runtime error:|keelfs: bug:' "$WORK"/log/*.log 2>/dev/null
}

finish() {
    local code=$? pidfile
    trap - EXIT
    set +e
    [ $code = 0 ] || not_ok "ended early with exit $code"
    for mountpoint in $(awk -v w="$WORK/" 'index($2, w) == 1 { print $2 }' /proc/self/mounts | tac); do
        umount -l "$mountpoint"
    done
    for pidfile in "$WORK"/run/*.pid; do
        [ -e "$pidfile" ] && kill -9 "$(cat "$pidfile" 2>/dev/null)" 2>/dev/null
    done
    ! declare -F at_exit >/dev/null || at_exit # what else the test has made
    if complaints >/dev/null; then
        not_ok "a process died of a bug: $(complaints | tr '\n' ' ')"
        grep -hE -A25 'ERROR: AddressSanitizer|runtime error:|keelfs: bug:' "$WORK"/log/*.log | head -n 60
    fi
    if [ -n "${KEEP:-}" ] || { [ "$FAILED" != 0 ] && [ -n "${KEEP_FAILED:-}" ]; }; then
        echo "kept: $WORK"
    else
        rm -rf "$WORK"
    fi
    echo "$PASSED passed, $FAILED failed"
    [ "$FAILED" = 0 ]
    exit
}
trap finish EXIT
