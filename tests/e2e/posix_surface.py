"""posix_surface.py [[--as-user] CASE DIRECTORY]: one case in an empty directory; without arguments: their
names; --for-users: the names of those that an ordinary user can run as well.

What Linux offers beyond the basics of posix_basic.py.
"""
import ctypes
import errno
import os
import shutil
import stat
import struct
import subprocess
import sys
import time

from posix_basic import NOBODY, as_nobody, fails, get, libc, nobody_fails, put, renameat2

CASES = {}
SOMEBODY = 1234
FOR_ROOT = set()
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def case(function):
    CASES[function.__name__] = function
    return function


def root_case(function):
    FOR_ROOT.add(function.__name__)
    return case(function)


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


def entries_of(value):
    return [struct.unpack_from("<HHI", value, at) for at in range(4, len(value), 8)]


NAMED = acl((USER_OBJ, 6, 2**32 - 1), (USER, 6, NOBODY), (GROUP_OBJ, 4, 2**32 - 1), (MASK, 7, 2**32 - 1),
            (OTHER, 0, 2**32 - 1))


@case
def acl_and_mode(d):
    f = d + "/f"
    put(f, b"x")
    fails(errno.ENODATA, os.getxattr, f, ACCESS)
    os.setxattr(f, ACCESS, NAMED)
    assert mode_of(f) == 0o670, oct(mode_of(f))
    os.chmod(f, 0o640)
    assert (MASK, 4, 2**32 - 1) in entries_of(os.getxattr(f, ACCESS)), entries_of(os.getxattr(f, ACCESS))
    os.setxattr(f, ACCESS, acl((USER_OBJ, 6, 2**32 - 1), (GROUP_OBJ, 4, 2**32 - 1), (OTHER, 4, 2**32 - 1)))
    assert mode_of(f) == 0o644
    fails(errno.ENODATA, os.getxattr, f, ACCESS)
    os.setxattr(f, ACCESS, NAMED)
    os.removexattr(f, ACCESS)
    fails(errno.ENODATA, os.getxattr, f, ACCESS)
    assert os.listxattr(f) == []


@case
def acl_inherited(d):
    os.umask(0o077)
    os.mkdir(d + "/d", 0o755)
    os.mkdir(d + "/plain", 0o777)
    assert mode_of(d + "/plain") == 0o700
    os.setxattr(d + "/d", DEFAULT, NAMED)
    put(d + "/d/f", b"x")  # with mode 0644: the umask does not count here
    assert mode_of(d + "/d/f") == 0o640, oct(mode_of(d + "/d/f"))
    assert (USER, 6, NOBODY) in entries_of(os.getxattr(d + "/d/f", ACCESS))
    os.mkdir(d + "/d/e", 0o777)
    assert os.getxattr(d + "/d/e", DEFAULT) == NAMED
    assert mode_of(d + "/d/e") == 0o670, oct(mode_of(d + "/d/e"))
    os.removexattr(d + "/d", DEFAULT)
    put(d + "/d/g", b"x")
    assert mode_of(d + "/d/g") == 0o600


@root_case
def acl_enforced(d):
    put(d + "/f", b"secret")
    os.chmod(d + "/f", 0o600)
    nobody_fails(errno.EACCES, "open(sys.argv[1])", d + "/f")
    os.setxattr(d + "/f", ACCESS, NAMED)
    assert as_nobody("print(open(sys.argv[1]).read())", d + "/f") == "secret"
    as_nobody("open(sys.argv[1], 'a').write('!')", d + "/f")
    os.chmod(d + "/f", 0o640)  # the mask forbids writing now
    nobody_fails(errno.EACCES, "open(sys.argv[1], 'a')", d + "/f")
    nobody_fails(errno.EPERM, "os.setxattr(sys.argv[1], 'system.posix_acl_access', os.getxattr(sys.argv[1], "
                 "'system.posix_acl_access'))", d + "/f")
    os.mkdir(d + "/d", 0o700)
    put(d + "/d/g", b"below")
    os.chmod(d + "/d/g", 0o644)
    nobody_fails(errno.EACCES, "open(sys.argv[1])", d + "/d/g")
    os.setxattr(d + "/d", ACCESS, acl((USER_OBJ, 7, 2**32 - 1), (USER, 7, NOBODY), (GROUP_OBJ, 0, 2**32 - 1),
                                      (MASK, 7, 2**32 - 1), (OTHER, 0, 2**32 - 1)))
    assert as_nobody("print(open(sys.argv[1]).read())", d + "/d/g") == "below"
    as_nobody("os.rename(sys.argv[1], sys.argv[1] + '2'); os.unlink(sys.argv[1] + '2')", d + "/d/g")


@case
def umask_counts(d):
    os.umask(0o027)
    put(d + "/f", b"")
    os.mkdir(d + "/d", 0o777)
    os.mkfifo(d + "/p", 0o666)
    assert (mode_of(d + "/f"), mode_of(d + "/d"), mode_of(d + "/p")) == (0o640, 0o750, 0o640)


def allocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def holes(fd):
    """[(offset, end)] of the data, as lseek finds it."""
    found, at, size = [], 0, os.fstat(fd).st_size
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            assert e.errno == errno.ENXIO
            break
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        found.append((begin, at))
    return found


@case
def fallocate_modes(d):
    for size in (0, 3000, 300000):  # nothing, in the inode, in chunks
        fd = os.open(d + "/f%d" % size, os.O_RDWR | os.O_CREAT)
        data = bytearray(os.urandom(size))
        os.write(fd, data)
        os.fsync(fd)
        before = os.fstat(fd).st_blocks
        allocate(fd, KEEP_SIZE, size, 1 << 20)
        assert os.fstat(fd).st_size == size
        assert os.fstat(fd).st_blocks >= before + 2048 - 1, (before, os.fstat(fd).st_blocks)
        allocate(fd, 0, 0, size + (1 << 20))
        assert os.fstat(fd).st_size == size + (1 << 20)
        data += bytes(1 << 20)
        assert os.pread(fd, len(data) + 1, 0) == data
        os.pwrite(fd, b"w" * 5000, size + 100000)
        data[size + 100000:size + 105000] = b"w" * 5000
        os.fsync(fd)
        assert os.fstat(fd).st_blocks * 512 <= len(data) + 1024, "data in a reservation counts once"
        for offset, length in ((0, 10), (size // 2, 4096), (size + 99000, 3000), (4096, 8192)):
            allocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length)
            end = min(offset + length, len(data))
            data[offset:end] = bytes(end - offset)
            assert os.pread(fd, len(data) + 1, 0) == data, (size, offset, length)
        allocate(fd, ZERO_RANGE, size // 3, 60000)
        data[size // 3:size // 3 + 60000] = bytes(60000)
        assert os.pread(fd, len(data) + 1, 0) == data
        os.ftruncate(fd, size)
        assert os.fstat(fd).st_blocks * 512 <= size + 1024
        os.close(fd)
    fd = os.open(d + "/g", os.O_RDWR | os.O_CREAT)
    fails(errno.ENOSPC, allocate, fd, 0, 0, 1 << 60)
    assert os.fstat(fd).st_size == 0
    fails(errno.EINVAL, allocate, fd, 0, 0, 0)
    os.close(fd)


@case
def punched_before_it_is_flushed(d):
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    for i in range(20):
        os.pwrite(fd, b"x" * 100000, 0)
        allocate(fd, PUNCH_HOLE | KEEP_SIZE, 10000, 20000)
        want = b"x" * 10000 + bytes(20000) + b"x" * 70000
        assert os.pread(fd, 200000, 0) == want
        os.pwrite(fd, b"y", 15000 + i)
        assert os.pread(fd, 1, 15000 + i) == b"y"
    os.close(fd)


@case
def reservation_in_df(d):
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    before = os.statvfs(d).f_bfree
    allocate(fd, 0, 0, 10 << 30)
    taken = before - os.statvfs(d).f_bfree
    assert taken * 4096 >= 9 << 30, taken
    os.ftruncate(fd, 0)
    assert (before - os.statvfs(d).f_bfree) * 4096 < 1 << 30
    os.close(fd)


@case
def seek_data_and_hole(d):
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    M = 1 << 20
    for at in (0, 3 * M, 4 * M, 100 * M):
        os.pwrite(fd, b"d" * M, at)  # not flushed yet
    os.ftruncate(fd, 200 * M)
    assert holes(fd) == [(0, M), (3 * M, 5 * M), (100 * M, 101 * M)], holes(fd)
    allocate(fd, 0, 50 * M, 10 * M)
    allocate(fd, PUNCH_HOLE | KEEP_SIZE, 3 * M + 4096, 4096)
    assert holes(fd) == [(0, M), (3 * M, 3 * M + 4096), (3 * M + 8192, 5 * M), (100 * M, 101 * M)], holes(fd)
    fails(errno.ENXIO, os.lseek, fd, 200 * M, os.SEEK_DATA)
    fails(errno.ENXIO, os.lseek, fd, 150 * M, os.SEEK_DATA)
    os.close(fd)
    fd = os.open(d + "/small", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"d" * 100, 4096)
    assert holes(fd) == [(4096, 4196)], holes(fd)
    os.close(fd)


@case
def huge_and_sparse(d):
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"end", 2**63 - 1 - 3 - 4096)
    os.fsync(fd)
    assert os.fstat(fd).st_size == 2**63 - 1 - 4096 and os.fstat(fd).st_blocks <= 16
    assert os.lseek(fd, 0, os.SEEK_DATA) >= 2**63 - 3 * 4096
    assert os.pread(fd, 10, 2**63 - 1 - 3 - 4096) == b"end"
    os.close(fd)


def copy_all(a, b, size, at, to):
    while size > 0:  # a copy may be short
        n = os.copy_file_range(a, b, size, at, to)
        assert n > 0
        size, at, to = size - n, at + n, to + n


@case
def copied_by_sharing(d):
    data = os.urandom(5000000)
    put(d + "/a", data)
    a, b = os.open(d + "/a", os.O_RDWR), os.open(d + "/b", os.O_RDWR | os.O_CREAT)
    at = 0
    while at < len(data):
        n = os.copy_file_range(a, b, len(data) - at)
        assert n > 0
        at += n
    assert os.copy_file_range(a, b, 10) == 0
    assert get(d + "/b") == data
    copy_all(a, b, 70001, 33, 2000001)
    want = bytearray(data)
    want[2000001:2070002] = data[33:70034]
    assert get(d + "/b") == want
    os.pwrite(b, b"only in b", 100)  # sharing is not seen
    want[100:109] = b"only in b"
    os.fsync(b)
    assert get(d + "/a") == data and get(d + "/b") == want
    os.unlink(d + "/a")
    assert get(d + "/b") == want
    copy_all(b, b, 10000, 0, 3000000)  # within one file
    want[3000000:3010000] = want[0:10000]
    assert get(d + "/b") == want
    put(d + "/small", b"small")  # in the inode: copied as bytes
    small = os.open(d + "/small", os.O_RDONLY)
    assert os.copy_file_range(small, b, 5, 0, 7) == 5
    want[7:12] = b"small"
    assert get(d + "/b") == want


def name_it(fd, path):
    follow, here = 0x400, -100
    if libc.linkat(here, b"/proc/self/fd/%d" % fd, here, path.encode(), follow) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@case
def tmpfile(d):
    fd = os.open(d, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"t" * 100000)
    assert os.fstat(fd).st_nlink == 0 and os.listdir(d) == []
    name_it(fd, d + "/named")
    assert os.fstat(fd).st_nlink == 1
    assert get(d + "/named") == b"t" * 100000
    os.close(fd)
    assert get(d + "/named") == b"t" * 100000
    fd = os.open(d, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    fails(errno.ENOENT, name_it, fd, d + "/other")
    os.close(fd)
    many = [os.open(d, os.O_TMPFILE | os.O_RDWR) for _ in range(300)]
    for fd in many:
        os.close(fd)
    assert os.listdir(d) == ["named"]


@case
def times_before_1970(d):
    put(d + "/f", b"x")
    for when in (-1, -315593940, 0, 2**32, 253402300799):
        os.utime(d + "/f", ns=(when * 10**9 + 5, when * 10**9 + 7))
        got = os.stat(d + "/f")
        if when < 2**33:
            assert (got.st_atime_ns, got.st_mtime_ns) == (when * 10**9 + 5, when * 10**9 + 7), (when, got)


@case
def birth_time(d):
    put(d + "/f", b"x")
    out = subprocess.run(["stat", "-c", "%W", d + "/f"], capture_output=True, text=True).stdout
    assert abs(int(out) - time.time()) < 100, out


def only_mode(path):
    """Asked for by itself: the kernel may know it still when it knows no times."""
    return subprocess.run(["stat", "-c", "%a", path], capture_output=True, text=True).stdout.strip()


@root_case
def executed_without_reading(d):
    shutil.copy("/bin/true", d + "/program")
    os.chmod(d + "/program", 0o711)
    nobody_fails(errno.EACCES, "open(sys.argv[1])", d + "/program")
    subprocess.run(["cat", d + "/program"], stdout=subprocess.DEVNULL, check=True)
    as_nobody("import subprocess; subprocess.run([sys.argv[1]], check=True)", d + "/program")
    os.chmod(d + "/program", 0o744)
    nobody_fails(errno.EACCES, "import subprocess; subprocess.run([sys.argv[1]])", d + "/program")


@root_case
def direct_write_clears_suid(d):
    write = ("import mmap; fd = os.open(sys.argv[1], os.O_RDWR | int(sys.argv[2])); page = mmap.mmap(-1, 4096)\n"
             "assert os.pwrite(fd, page, 0) == 4096")
    for flags in (0, os.O_DIRECT):
        put(d + "/f", b"x" * 10000)
        os.chown(d + "/f", NOBODY, NOBODY)
        os.chmod(d + "/f", 0o6755)
        assert only_mode(d + "/f") == "6755"
        as_nobody(write, d + "/f", str(flags))
        assert only_mode(d + "/f") == "755", only_mode(d + "/f")


@root_case
def allocating_clears_privileges(d):
    allocation = ("import ctypes; fd = os.open(sys.argv[1], os.O_RDWR)\n"
                  "assert ctypes.CDLL(None).fallocate(fd, int(sys.argv[2]), ctypes.c_long(0), ctypes.c_long(9999)) == 0")
    capability = struct.pack("<IIIII", 0x02000001, 0xC0, 0, 0, 0)
    f = d + "/f"
    put(f, b"x" * 10000)
    for mode in 0, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE:
        for before, after in ("6666", "666"), ("6777", "777"), ("2676", "676"):
            os.chmod(f, int(before, 8))
            assert only_mode(f) == before
            as_nobody(allocation, f, str(mode))
            assert only_mode(f) == after, (mode, before, only_mode(f))
        os.setxattr(f, "security.capability", capability)
        as_nobody(allocation, f, str(mode))
        fails(errno.ENODATA, os.getxattr, f, "security.capability")
    os.chmod(f, 0o6777)
    fd = os.open(f, os.O_RDWR)
    allocate(fd, 0, 0, 20000)  # root may keep them
    os.close(fd)
    assert only_mode(f) == "6777"
    os.setxattr(f, "security.capability", capability)
    os.chmod(f, 0o755)
    nobody_fails(errno.EPERM, "os.removexattr(sys.argv[1], 'security.capability')", f)


@case
def removed_directory_in_use(d):
    here = os.open(d, os.O_RDONLY | os.O_DIRECTORY)
    os.mkdir(d + "/gone")
    os.mkdir(d + "/replaced")
    os.mkdir(d + "/other")
    gone, replaced = (os.open(d + "/" + n, os.O_RDONLY | os.O_DIRECTORY) for n in ("gone", "replaced"))
    os.fchdir(gone)
    os.rmdir(d + "/gone")
    os.rename(d + "/other", d + "/replaced")
    for fd in gone, replaced:
        assert os.fstat(fd).st_nlink == 0, os.fstat(fd)
        assert stat.S_ISDIR(os.fstat(fd).st_mode)
    assert os.stat(".").st_nlink == 0
    fails(errno.ENOENT, os.mkdir, "below")
    assert os.listdir(gone) == []
    assert os.stat(d + "/replaced").st_nlink == 2
    for fd in gone, replaced, here:
        os.close(fd)


@root_case
def whiteouts(d):
    put(d + "/f", b"moved")
    renameat2(d + "/f", d + "/g", 4)
    info = os.lstat(d + "/f")
    assert stat.S_ISCHR(info.st_mode) and info.st_rdev == 0 and get(d + "/g") == b"moved"


def main():
    if len(sys.argv) == 1:
        print("\n".join(CASES))
    elif sys.argv[1] == "--for-users":
        print("\n".join(name for name in CASES if name not in FOR_ROOT))
    else:
        if sys.argv[1] == "--as-user":
            del sys.argv[1]
            os.setgroups([])
            os.setgid(SOMEBODY)
            os.setuid(SOMEBODY)
        CASES[sys.argv[1]](sys.argv[2])


if __name__ == "__main__":
    main()
