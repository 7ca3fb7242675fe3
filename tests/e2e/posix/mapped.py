"""mmap."""
import ctypes
import errno
import mmap
import os
import resource
import signal

from helpers import KEEP_SIZE, PUNCH_HOLE, allocate, case, expect, fails, get, in_child, put, same


@case
def mmap_shared(d):
    """a shared mapping writes to the file, also when the descriptor is closed"""
    path = d + "/f"
    put(path, b"." * 20000)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 20000) as m:
        os.close(fd)  # released by the kernel only after the mapping has gone
        m[5000:5003] = b"abc"
        m.flush()
        want = bytearray(b"." * 20000)
        want[5000:5003] = b"abc"
        expect(path, bytes(want))
        m[9000:9003] = b"def"
    want[9000:9003] = b"def"
    expect(path, bytes(want))


PAGE = mmap.PAGESIZE


@case
def mmap_private(d):
    """a private mapping's writes are its own; it sees the file where it has not written"""
    put(d + "/f", b"." * 3 * PAGE)
    fd = os.open(d + "/f", os.O_RDWR)
    m = mmap.mmap(fd, 3 * PAGE, flags=mmap.MAP_PRIVATE)
    m[10:13] = b"own"
    assert os.pread(fd, 3, 10) == b"..."
    os.pwrite(fd, b"file", 2 * PAGE)
    assert m[2 * PAGE:2 * PAGE + 4] == b"file" and m[10:13] == b"own"
    m.close()
    os.close(fd)
    assert get(d + "/f")[:20] == b"." * 20


@case
def mmap_coherent(d):
    """a shared mapping and read and write see each other at once, in other processes too"""
    put(d + "/f", b"." * 20 * PAGE)
    fd, other = os.open(d + "/f", os.O_RDWR), os.open(d + "/f", os.O_RDWR)
    m = mmap.mmap(fd, 20 * PAGE)

    def elsewhere():
        mine = mmap.mmap(other, 20 * PAGE)
        assert mine[5 * PAGE:5 * PAGE + 5] == b"map 1"
        mine[6 * PAGE:6 * PAGE + 5] = b"map 2"
        assert os.pwrite(other, b"write", 7 * PAGE) == 5

    for i in range(5):
        m[5 * PAGE:5 * PAGE + 5] = b"map 1"
        assert os.pread(other, 5, 5 * PAGE) == b"map 1"
        in_child(elsewhere)
        assert m[6 * PAGE:6 * PAGE + 5] == b"map 2" and m[7 * PAGE:7 * PAGE + 5] == b"write"
        assert os.pread(fd, 5, 6 * PAGE) == b"map 2"
        if i % 2:
            m.flush()
            os.fsync(fd)
        os.pwrite(fd, b".....", 5 * PAGE)
        assert m[5 * PAGE:5 * PAGE + 5] == b"....."
    m.close()
    os.close(fd), os.close(other)


def killed_by(function):
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        function()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@case
def mmap_beyond_the_end(d):
    """behind the last page of the file a mapping gives SIGBUS, also after a truncate; zeros in the last page"""
    put(d + "/f", b"x" * (2 * PAGE + 100))
    fd = os.open(d + "/f", os.O_RDWR)
    m = mmap.mmap(fd, 2 * PAGE + 100)
    assert m[2 * PAGE + 99] == ord("x")
    assert killed_by(lambda: m[PAGE]) == 0
    os.ftruncate(fd, 100)
    assert killed_by(lambda: m[PAGE]) == signal.SIGBUS
    assert killed_by(lambda: m[PAGE * 2 + 50]) == signal.SIGBUS
    assert m[0:200] == b"x" * 100 + bytes(100)
    os.ftruncate(fd, 2 * PAGE + 100)
    assert m[PAGE:PAGE + 100] == bytes(100), "grown again: zeros"
    m[PAGE] = 65
    assert os.pread(fd, 1, PAGE) == b"A"
    m.close()
    os.close(fd)


@case
def mmap_tail(d):
    """what a mapping writes behind the end of the file is not part of it, also when it grows later"""
    put(d + "/f", b"x" * 100)
    fd = os.open(d + "/f", os.O_RDWR)
    m = mmap.mmap(fd, 100)
    tail = (ctypes.c_char * PAGE).from_address(ctypes.addressof(ctypes.c_char.from_buffer(m)))
    tail[200:205] = b"stray"
    del tail
    m[50:60] = b"y" * 10
    m.flush()
    os.ftruncate(fd, 5000)
    want = b"x" * 50 + b"y" * 10 + b"x" * 40 + bytes(4900)
    same(os.pread(fd, 6000, 0), want, "after it grew")
    m.close()
    os.close(fd)
    expect(d + "/f", want)


@case
def mmap_of_a_hole(d):
    """pages of a hole are zeros; written through a mapping they become data; fsync stores them"""
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 300 * PAGE)
    m = mmap.mmap(fd, 300 * PAGE)
    assert m[100 * PAGE:101 * PAGE] == bytes(PAGE)
    for page in 3, 100, 299:
        m[page * PAGE:page * PAGE + 4] = b"page"
    os.fsync(fd)
    assert os.fstat(fd).st_blocks * 512 <= 16 * PAGE, os.fstat(fd).st_blocks
    allocate(fd, PUNCH_HOLE | KEEP_SIZE, 100 * PAGE, PAGE)
    assert m[100 * PAGE:100 * PAGE + 4] == bytes(4), "punched below the mapping"
    m.close()
    os.close(fd)
    data = get(d + "/f")
    assert data[3 * PAGE:3 * PAGE + 4] == b"page" == data[299 * PAGE:299 * PAGE + 4] and data.count(b"page") == 2


@case
def mmap_rights(d):
    """mmap: EACCES for a shared writable mapping of a descriptor that only reads; ENODEV of a directory"""
    put(d + "/f", b"x" * PAGE)
    fd, writer = os.open(d + "/f", os.O_RDONLY), os.open(d + "/f", os.O_WRONLY)
    fails(errno.EACCES, mmap.mmap, fd, PAGE, mmap.MAP_SHARED, mmap.PROT_WRITE | mmap.PROT_READ)
    fails(errno.EACCES, mmap.mmap, writer, PAGE, mmap.MAP_SHARED, mmap.PROT_READ)
    m = mmap.mmap(fd, PAGE, mmap.MAP_PRIVATE, mmap.PROT_WRITE | mmap.PROT_READ)
    m[0] = 65
    os.unlink(d + "/f")
    os.close(fd), os.close(writer)
    assert m[0:2] == b"Ax", "the mapping keeps the file"
    m.close()
    directory = os.open(d, os.O_RDONLY)
    fails(errno.ENODEV, mmap.mmap, directory, PAGE, mmap.MAP_SHARED, mmap.PROT_READ)
    os.close(directory)


@case
def mmap_times(d):
    """a write through a shared mapping changes mtime and ctime by msync at the latest"""
    put(d + "/f", b"x" * PAGE)
    os.utime(d + "/f", (1000, 1000))
    fd = os.open(d + "/f", os.O_RDWR)
    m = mmap.mmap(fd, PAGE)
    m[0] = 65
    m.flush()
    assert os.fstat(fd).st_mtime > 1e9 and os.fstat(fd).st_ctime > 1e9
    m.close()
    os.close(fd)
