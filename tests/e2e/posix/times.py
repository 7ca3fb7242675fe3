"""Time stamps."""
import errno
import os
import struct
import subprocess
import time

from helpers import AT_FDCWD, NOBODY, as_user, case, check, fails, get, libc, nobody_fails, put


@case
def times_kept(d):
    """times that were set stay, writes change them"""
    path = d + "/f"
    when = 1000000000 * 10**9 + 123456789
    for size in (100, 50000):
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(fd, b"x" * size)
        os.utime(path, ns=(when, when))
        assert os.stat(path).st_mtime_ns == when
        os.fsync(fd)
        os.close(fd)
        time.sleep(0.01)
        assert os.stat(path).st_mtime_ns == when and os.stat(path).st_atime_ns == when
        put(path, b"y", os.O_WRONLY)
        assert abs(os.stat(path).st_mtime - time.time()) < 5
        os.unlink(path)
    before = os.stat(d).st_mtime_ns
    time.sleep(0.02)
    put(d + "/g", b"")
    assert os.stat(d).st_mtime_ns > before
    os.truncate(d + "/g", 10)
    assert os.stat(d + "/g").st_ctime_ns > before


@case
def times_before_1970(d):
    """times before 1970 and after 2106, to the nanosecond"""
    put(d + "/f", b"x")
    for when in (-1, -315593940, 0, 2**32, 253402300799):
        os.utime(d + "/f", ns=(when * 10**9 + 5, when * 10**9 + 7))
        got = os.stat(d + "/f")
        if when < 2**33:
            assert (got.st_atime_ns, got.st_mtime_ns) == (when * 10**9 + 5, when * 10**9 + 7), (when, got)


@case
def birth_time(d):
    """statx has the time of birth"""
    put(d + "/f", b"x")
    out = subprocess.run(["stat", "-c", "%W", d + "/f"], capture_output=True, text=True).stdout
    assert abs(int(out) - time.time()) < 100, out


def stamps(path):
    s = os.lstat(path)
    return s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns


def changed(path, before):
    return "".join(letter for letter, old, new in zip("amc", before, stamps(path)) if old != new)


@case
def what_changes_times(d):
    """which operations change atime, mtime, ctime of the file and of its directory"""
    f = d + "/f"

    def changes(what, of_file, of_parent, operation):
        file_before = stamps(f) if os.path.lexists(f) else None
        parent_before = stamps(d)
        time.sleep(0.005)
        operation()
        if file_before is not None and of_file is not None:
            assert changed(f, file_before).replace("a", "") == of_file, (what, changed(f, file_before))
        got = changed(d, parent_before).replace("a", "")
        assert got == of_parent, (what, "parent", got)

    changes("create", None, "mc", lambda: put(f, b"12345"))
    changes("write", "mc", "", lambda: put(f, b"x", os.O_WRONLY))
    changes("read", "", "", lambda: get(f))
    changes("truncate", "mc", "", lambda: os.truncate(f, 3))
    changes("truncate to the same size", "mc", "", lambda: os.truncate(f, 3))
    changes("O_TRUNC", "mc", "", lambda: put(f, b""))
    changes("O_TRUNC of nothing", "mc", "", lambda: put(f, b""))
    changes("chmod", "c", "", lambda: os.chmod(f, 0o600))
    changes("chown", "c", "", lambda: os.chown(f, os.getuid(), os.getgid()))
    changes("link", "c", "mc", lambda: os.link(f, d + "/g"))
    changes("unlink of the other name", "c", "mc", lambda: os.unlink(d + "/g"))
    changes("stat", "", "", lambda: os.stat(f))
    changes("open for writing", "", "", lambda: os.close(os.open(f, os.O_WRONLY)))
    changes("utime", "mc", "", lambda: os.utime(f, (5, 5)))
    changes("mkdir", "", "mc", lambda: os.mkdir(d + "/sub"))
    changes("mkdir further down", "", "", lambda: os.mkdir(d + "/sub/sub"))
    changes("rename in the directory", "c", "mc", lambda: (os.rename(f, d + "/n"), os.rename(d + "/n", f)))
    changes("rename into another", None, "mc", lambda: os.rename(f, d + "/sub/f"))
    changes("rename back", None, "mc", lambda: os.rename(d + "/sub/f", f))
    changes("rmdir", "", "", lambda: os.rmdir(d + "/sub/sub"))
    changes("rmdir", "", "mc", lambda: os.rmdir(d + "/sub"))
    changes("symlink", "", "mc", lambda: os.symlink("f", d + "/l"))
    changes("rename over", None, "mc", lambda: os.rename(f, d + "/l"))
    for operation in (lambda: os.unlink(d + "/nothing"), lambda: os.mkdir(d + "/l"), lambda: os.rmdir(d + "/l")):
        changes("what fails", "", "", lambda: fails_somehow(operation))


def fails_somehow(operation):
    try:
        operation()
    except OSError:
        return
    raise AssertionError("it did not fail")


def utimensat(path, atime, mtime, flags=0):
    times = struct.pack("qqqq", *atime, *mtime)
    check(libc.utimensat(AT_FDCWD, os.fsencode(path), times, flags))


NOW, OMIT = (0, (1 << 30) - 1), (0, (1 << 30) - 2)


@case
def utime_now_and_omit(d):
    """UTIME_NOW is now, UTIME_OMIT leaves it; both omitted change nothing, not even ctime"""
    f = d + "/f"
    put(f, b"x")
    os.utime(f, ns=(10**9 + 1, 2 * 10**9 + 2))
    before = stamps(f)
    time.sleep(0.01)
    utimensat(f, OMIT, OMIT)
    assert stamps(f) == before
    utimensat(f, (77, 5), OMIT)
    assert stamps(f)[:2] == (77 * 10**9 + 5, 2 * 10**9 + 2) and stamps(f)[2] > before[2]
    utimensat(f, OMIT, NOW)
    assert stamps(f)[0] == 77 * 10**9 + 5 and abs(stamps(f)[1] / 1e9 - time.time()) < 5
    fails(errno.EINVAL, utimensat, f, (0, 10**9), OMIT)
    fails(errno.EINVAL, utimensat, f, OMIT, (0, -1))
    os.symlink("f", d + "/l")
    utimensat(d + "/l", (3, 0), (4, 0), 0x100)  # AT_SYMLINK_NOFOLLOW
    assert stamps(d + "/l")[:2] == (3 * 10**9, 4 * 10**9) and stamps(f)[0] == 77 * 10**9 + 5


@case(root=True)
def utime_rights(d):
    """who may write may set the time to now, only the owner may set another (EPERM), others neither (EACCES)"""
    f = d + "/f"
    put(f, b"x")
    os.chmod(f, 0o666)
    as_user(utimensat, f, NOW, NOW)
    nobody_fails(errno.EPERM, utimensat, f, (1, 0), (1, 0))
    nobody_fails(errno.EPERM, utimensat, f, NOW, OMIT)
    nobody_fails(errno.EPERM, utimensat, f, OMIT, NOW)
    as_user(utimensat, f, OMIT, OMIT)
    os.chmod(f, 0o644)
    nobody_fails(errno.EACCES, utimensat, f, NOW, NOW)
    os.chown(f, NOBODY, NOBODY)
    os.chmod(f, 0)
    as_user(utimensat, f, NOW, NOW)
    as_user(utimensat, f, (1, 0), (1, 0))
    assert os.stat(f).st_mtime == 1


@case
def times_go_forward(d):
    """what is done later has no earlier time, over many operations and (elsewhere) failovers"""
    last = 0
    for i in range(300):
        path = d + "/f%d" % (i % 10)
        put(path, b"x", os.O_WRONLY | os.O_CREAT)
        now = os.stat(path).st_mtime_ns
        assert now >= last, (i, last - now)
        os.chmod(path, 0o600 + i % 2)
        changed_at = os.stat(path).st_ctime_ns
        assert changed_at >= now, (i, now - changed_at)
        last = now


@case
def times_of_written_data(d):
    """mtime after a write stays what stat said, over fsync and close; futimens after a write holds"""
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x" * 100000)
    said = os.fstat(fd).st_mtime_ns
    os.fsync(fd)
    assert os.fstat(fd).st_mtime_ns == said
    os.pwrite(fd, b"y", 0)
    os.utime(fd, ns=(123456789, 987654321))
    os.fsync(fd)
    os.close(fd)
    assert os.stat(d + "/f").st_mtime_ns == 987654321


def access_time(path):
    """As the mount has it: the kernel's own copy of the attributes may be a second old."""
    out = subprocess.run(["stat", "--cached=never", "-c", "%.9X", path], capture_output=True, text=True, check=True)
    seconds, nanoseconds = out.stdout.strip().split(".")
    return int(seconds) * 10**9 + int(nanoseconds)


def reading(path):
    """Whether it changes the access time."""
    before = access_time(path)
    time.sleep(0.002)
    if os.path.isdir(path):
        os.listdir(path)
    else:
        get(path)
    return access_time(path) != before


@case
def access_times(d):
    """relatime: reading changes the access time when the file has changed since the last access, and only then"""
    f = d + "/f"
    for size in (1, 100000):
        put(f, b"x" * size)
        assert reading(f) and not reading(f) and not reading(f), size
        put(f, b"y", os.O_WRONLY)
        assert reading(f) and not reading(f), size
        before = stamps(f)
        get(f)
        assert stamps(f)[1:] == before[1:], "mtime and ctime are no business of it"
    fd = os.open(d + "/synced", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"x")
    os.fsync(fd)
    os.close(fd)
    before = os.stat(d + "/synced").st_atime_ns
    time.sleep(0.002)
    get(d + "/synced")
    assert os.stat(d + "/synced").st_atime_ns > before, "the kernel has what is true"
    os.utime(f, (5, time.time() + 1000))
    assert access_time(f) == 5 * 10**9 and reading(f), "what was set stays until it is read"
    os.mkdir(d + "/sub")
    assert reading(d + "/sub") and not reading(d + "/sub")
    put(d + "/sub/f", b"")
    assert reading(d + "/sub") and not reading(d + "/sub")
    put(f, b"z", os.O_WRONLY)
    before = access_time(f)
    time.sleep(0.002)
    fd = os.open(f, os.O_RDONLY | os.O_NOATIME)
    os.read(fd, 10)
    os.close(fd)
    assert access_time(f) == before, "O_NOATIME"
    os.symlink("f", d + "/l")
    before = os.lstat(d + "/l").st_atime_ns
    time.sleep(0.002)
    os.readlink(d + "/l")
    assert access_time(d + "/l") > before, "readlink"


@case
def access_time_kept(d):
    """chmod just after a read keeps the access time, utime replaces it"""
    f = d + "/f"
    put(f, b"x")
    assert reading(f)
    read_at = access_time(f)
    os.chmod(f, 0o600)
    assert access_time(f) == read_at
    os.utime(f, ns=(5, 7))
    assert access_time(f) == 5
