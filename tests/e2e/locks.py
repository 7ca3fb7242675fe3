"""locks: what fcntl(2) and flock(2) say, case by case.

  locks.py cases DIR [DIR2]   every case between a process on DIR and one on DIR2 (default the same)
  locks.py append DIR DIR2 N  appends under a lock on two mounts in turn, N rounds
  locks.py hold FILE KIND     takes a lock (posix, flock), prints "held", and keeps it until a signal comes
  locks.py made FILE          makes it, prints "made", waits for a line, and prints what is in it under a lock
  locks.py count FILE N       N times: lock, read a number, write it plus one, unlock
  locks.py sqlite FILE N WHO  N transactions of one row each
"""

import errno
import fcntl
import os
import select
import signal
import sqlite3
import struct
import subprocess
import sys

WAIT_S = 20


def flock_struct(kind, start, length):
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def posix(fd, kind, start=0, length=0, wait=False):
    """0 or an errno."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLKW if wait else fcntl.F_SETLK, flock_struct(kind, start, length))
    except OSError as error:
        return error.errno
    return 0


def posix_test(fd, kind, start=0, length=0):
    """None, or (kind, start, length, pid) of what is in the way."""
    answer = fcntl.fcntl(fd, fcntl.F_GETLK, flock_struct(kind, start, length))
    kind, _, start, length, pid = struct.unpack("hhqqi4x", answer)
    return None if kind == fcntl.F_UNLCK else (kind, start, length, pid)


def flock(fd, how):
    try:
        fcntl.flock(fd, how)
    except OSError as error:
        return error.errno
    return 0


class Child:
    """Another process, which does what it is told: methods of Actor by name."""

    def __init__(self, path):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "actor", path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.pid = self.process.pid
        assert self.process.stdout.readline() == "ready\n"

    def begin(self, *words):
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")

    def answer(self, timeout=WAIT_S):
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        return self.process.stdout.readline().strip() if ready else "no answer"

    def do(self, *words):
        self.begin(*words)
        return self.answer()

    def is_waiting(self):
        return self.answer(0.3) == "no answer"

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def actor(path):
    fds = {"a": os.open(path, os.O_RDWR | os.O_CREAT)}
    kinds = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
    flocks = {"r": fcntl.LOCK_SH, "w": fcntl.LOCK_EX, "u": fcntl.LOCK_UN}
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(InterruptedError(errno.EINTR, "")))
    print("ready", flush=True)
    for line in sys.stdin:
        what, *words = line.split()
        if what == "lock":
            print(posix(fds["a"], kinds[words[0]], int(words[1]), int(words[2])), flush=True)
        elif what == "wait":
            print(posix(fds["a"], kinds[words[0]], int(words[1]), int(words[2]), True), flush=True)
        elif what == "test":
            print(posix_test(fds["a"], kinds[words[0]], int(words[1]), int(words[2])), flush=True)
        elif what == "open":
            fds[words[0]] = os.open(path, os.O_RDWR)
            print(0, flush=True)
        elif what == "close":
            os.close(fds.pop(words[0]))
            print(0, flush=True)
        elif what == "alarm":
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            print(posix(fds["a"], kinds[words[0]], 0, 0, True), flush=True)
        elif what == "flock":
            print(flock(fds[words[0]], flocks[words[1]] | fcntl.LOCK_NB), flush=True)
        elif what == "flockwait":
            print(flock(fds[words[0]], flocks[words[1]]), flush=True)
        elif what == "write":
            print(os.pwrite(fds["a"], words[0].encode(), 0), flush=True)
        elif what == "append":
            if "log" not in fds:
                fds["log"] = os.open(path, os.O_RDWR | os.O_APPEND)
            log = fds["log"]
            fcntl.flock(log, fcntl.LOCK_EX)
            print(os.write(log, words[0].encode()), flush=True)
            fcntl.flock(log, fcntl.LOCK_UN)
        elif what == "read":
            print(os.pread(fds["a"], 100, 0).decode(), flush=True)


PASSED = FAILED = 0
NAME = "locks"


def check(what, good):
    global PASSED, FAILED
    PASSED += bool(good)
    FAILED += not good
    print(("ok" if good else "not ok"), "-", NAME + ":", what, flush=True)


AGAIN = str(errno.EAGAIN)


def two(dir1, dir2, name):
    path = os.path.join(dir1, name)
    open(path, "w").close()
    return Child(path), Child(os.path.join(dir2, name))


def case_ranges(dir1, dir2):
    a, b = two(dir1, dir2, "ranges")
    check("a range is locked", a.do("lock", "w", 100, 100) == "0")
    check("for others it is not free", b.do("lock", "r", 150, 1) == AGAIN)
    check("beside it is", b.do("lock", "w", 200, 50) == "0" and b.do("lock", "w", 0, 100) == "0")
    check("test names it", b.do("test", "w", 120, 5) == str((fcntl.F_WRLCK, 100, 100, a.pid)))
    check("test of what is free", b.do("test", "w", 1000, 5) == "None")
    check("a part is given up", a.do("lock", "u", 120, 10) == "0")
    check("and free for others", b.do("lock", "w", 120, 10) == "0")
    check("the rest is not", b.do("lock", "r", 119, 1) == AGAIN and b.do("lock", "r", 130, 1) == AGAIN)
    check("write becomes read", a.do("lock", "r", 100, 20) == "0")
    check("which is shared", b.do("lock", "r", 100, 20) == "0" and b.do("lock", "w", 100, 1) == AGAIN)
    check("to the end of the file", a.do("lock", "w", 1 << 40, 0) == "0")
    check("however far", b.do("lock", "r", (1 << 62), 1) == AGAIN)
    a.end(signal.SIGKILL)
    check("a killed process has none", b.do("wait", "w", 0, 0) == "0")
    b.end()


def case_close_reader(dir1, dir2):
    """The kernel tells of no close of a descriptor that cannot write; others have the file open."""
    a, b = two(dir1, dir2, "reader")
    fd = os.open(os.path.join(dir1, "reader"), os.O_RDONLY)
    fcntl.lockf(fd, fcntl.LOCK_SH)
    check("a reader's lock", b.do("lock", "w", 0, 0) == AGAIN)
    os.close(fd)
    check("is gone when it has closed the file", b.do("wait", "w", 0, 0) == "0")
    a.end()
    b.end()


def case_close(dir1, dir2):
    a, b = two(dir1, dir2, "close")
    a.do("open", "b")
    a.do("lock", "w", 0, 0)
    check("locked", b.do("lock", "w", 0, 0) == AGAIN)
    check("closing any descriptor", a.do("close", "b") == "0")
    check("gives a process's locks up", b.do("lock", "w", 0, 0) == "0")
    a.end()
    b.end()


def case_waiting(dir1, dir2):
    a, b = two(dir1, dir2, "waiting")
    c, d = Child(os.path.join(dir1, "waiting")), Child(os.path.join(dir2, "waiting"))
    a.do("lock", "w", 0, 10)
    b.begin("wait", "w", 0, 10)
    check("who wants it waits", b.is_waiting())
    c.begin("wait", "w", 5, 10)
    check("the next one, too", c.is_waiting())
    d.begin("wait", "r", 20, 10)
    check("but not for another range", d.answer() == "0")
    a.do("lock", "u", 0, 10)
    check("the first in line has it", b.answer() == "0" and c.is_waiting())
    b.do("lock", "u", 0, 10)
    check("then the second", c.answer() == "0")
    check("a signal ends the wait", a.do("alarm", "w") == str(errno.EINTR))
    c.do("lock", "u", 0, 0)
    check("and it stands in line no more", b.do("lock", "w", 0, 10) == "0")
    a.begin("wait", "w", 0, 0)
    check("one waits", a.is_waiting())
    a.end(signal.SIGKILL)
    b.do("lock", "u", 0, 0)
    d.do("lock", "u", 0, 0)
    check("killed while it waited: nothing is left of it", c.do("lock", "w", 0, 0) == "0")
    for child in b, c, d:
        child.end()


def case_deadlock(dir1, dir2):
    a, b = two(dir1, dir2, "deadlock")
    a.do("lock", "w", 0, 1)
    b.do("lock", "w", 1, 1)
    a.begin("wait", "w", 1, 1)
    check("one waits for the other", a.is_waiting())
    check("the other is told of the deadlock", b.do("wait", "w", 0, 1) == str(errno.EDEADLK))
    b.do("lock", "u", 1, 1)
    check("and the first goes on", a.answer() == "0")
    a.end()
    b.end()


def case_flock(dir1, dir2):
    a, b = two(dir1, dir2, "flock")
    check("shared", a.do("flock", "a", "r") == "0" and b.do("flock", "a", "r") == "0")
    check("not exclusive beside it", b.do("flock", "a", "w") == AGAIN)
    check("unlocked", b.do("flock", "a", "u") == "0" and a.do("flock", "a", "w") == "0")
    check("exclusive", b.do("flock", "a", "r") == AGAIN)
    check("record locks are others", b.do("lock", "w", 0, 0) == "0")
    b.begin("flockwait", "a", "w")
    check("waits", b.is_waiting())
    check("down to shared", a.do("flock", "a", "r") == "0" and b.is_waiting())
    check("closed", a.do("close", "a") == "0" and b.answer() == "0")
    b.do("open", "b")
    check("each opened file has its own", b.do("flock", "b", "r") == AGAIN)
    a.end()
    b.end()


def case_contents(dir1, dir2):
    """Who gets a lock sees what was written under it, though the file was open all the time."""
    a, b = two(dir1, dir2, "contents")
    good = True
    for i in range(30):
        writer, reader = (a, b) if i % 2 else (b, a)
        writer.do("wait", "w", 0, 0)
        writer.do("write", f"round-{i:04d}")
        writer.do("lock", "u", 0, 0)
        reader.do("wait", "r", 0, 0)
        good = good and reader.do("read") == f"round-{i:04d}"
        reader.do("lock", "u", 0, 0)
    check("what was written under the lock is read under the next one, 30 times", good)
    a.end()
    b.end()


def case_append(dir1, dir2):
    """Records appended under a lock, to files that stay open: none lies over another."""
    a, b = two(dir1, dir2, "append")
    for i in range(20):
        (a if i % 2 else b).do("append", f"record-{i:03d};")
    a.do("wait", "r", 0, 0)
    with open(os.path.join(dir1, "append")) as file:
        check("20 records appended in turn", file.read() == "".join(f"record-{i:03d};" for i in range(20)))
    a.end()
    b.end()


def cases(dir1, dir2):
    case_ranges(dir1, dir2)
    case_close(dir1, dir2)
    case_close_reader(dir1, dir2)
    case_waiting(dir1, dir2)
    case_deadlock(dir1, dir2)
    case_flock(dir1, dir2)
    case_contents(dir1, dir2)
    case_append(dir1, dir2)
    print(f"{PASSED} passed, {FAILED} failed")
    return FAILED


def hold(path, kind):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    if kind == "posix":
        fcntl.lockf(fd, fcntl.LOCK_EX)
    else:
        fcntl.flock(fd, fcntl.LOCK_EX)
    print("held", flush=True)
    signal.pause()


def made(path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.pwrite(fd, b"mine", 0)
    os.pread(fd, 10, 0)
    print("made", flush=True)
    sys.stdin.readline()
    fcntl.lockf(fd, fcntl.LOCK_EX)
    print(os.pread(fd, 10, 0).decode())


def count(path, times):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for _ in range(times):
        fcntl.lockf(fd, fcntl.LOCK_EX)
        number = int(os.pread(fd, 20, 0) or b"0")
        os.pwrite(fd, b"%020d" % (number + 1), 0)
        fcntl.lockf(fd, fcntl.LOCK_UN)


def sqlite(path, times, who):
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    for i in range(times):
        db.execute("begin immediate")
        last = db.execute("select coalesce(max(n), 0) from t").fetchone()[0]
        db.execute("insert into t values (?, ?)", (last + 1, who))
        db.execute("commit")
    db.close()


if __name__ == "__main__":
    command, *args = sys.argv[1:]
    if command == "cases":
        NAME = os.environ.get("TEST_NAME", NAME)
        sys.exit(cases(args[0], args[-1]) != 0)
    elif command == "append":
        for _ in range(int(args[2])):
            case_append(args[0], args[1])
        sys.exit(FAILED != 0)
    elif command == "actor":
        actor(args[0])
    elif command == "hold":
        hold(*args)
    elif command == "made":
        made(args[0])
    elif command == "count":
        count(args[0], int(args[1]))
    elif command == "sqlite":
        sqlite(args[0], int(args[1]), args[2])
