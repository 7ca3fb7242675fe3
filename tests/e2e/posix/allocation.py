"""Where a file has data: fallocate, lseek, copy_file_range, and what they count."""
import errno
import os
import time

from helpers import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, allocate, case, fails, get, put, same


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


def copy_all(a, b, size, at, to):
    while size > 0:  # a copy may be short
        n = os.copy_file_range(a, b, size, at, to)
        assert n > 0
        size, at, to = size - n, at + n, to + n


@case
def fallocate_modes(d):
    """fallocate: allocate, keep the size, punch, zero; contents and st_blocks"""
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
    """a punched hole reads as zeros, also in data just written"""
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
    """statvfs has less free by what was allocated"""
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
    """SEEK_DATA and SEEK_HOLE find data and holes exactly; ENXIO behind the last"""
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
def copied_by_sharing(d):
    """copy_file_range copies, and later writes are seen in one file only"""
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


@case
def copy_shares(d):
    """a copy made by copy_file_range takes no space: statvfs does not fall by its size"""
    size = 24 << 20
    a, b = os.open(d + "/a", os.O_RDWR | os.O_CREAT), os.open(d + "/b", os.O_RDWR | os.O_CREAT)
    allocate(b, 0, 0, size)  # what a reservation takes, a copy does not
    reserved = os.statvfs(d).f_bfree
    os.ftruncate(b, 0)
    data = os.urandom(1 << 20)
    for i in range(24):
        os.pwrite(a, data, i << 20)
    os.fsync(a)
    free = os.statvfs(d).f_bfree
    begin = time.monotonic()
    for i in range(3):
        copy_all(a, b, size, 0, i * size)
    os.fsync(b)
    assert os.fstat(b).st_size == 3 * size and os.fstat(b).st_blocks * 512 == 3 * size
    assert os.pread(b, 1 << 20, 2 * size + (5 << 20)) == data
    assert reserved > 0 and time.monotonic() - begin < 30
    # Others write to the disk below as well, so not to the byte: three copies would be 72 MiB and more.
    assert (free - os.statvfs(d).f_bfree) * 4096 < 3 * size - (8 << 20), (free, os.statvfs(d).f_bfree)
    os.close(a), os.close(b)


@case
def copy_ranges(d):
    """copy_file_range: past the end 0, overlapping ranges EINVAL, EBADF, EISDIR; neighbours are right"""
    data = os.urandom(300000)
    put(d + "/f", data)
    fd, out = os.open(d + "/f", os.O_RDWR), os.open(d + "/g", os.O_RDWR | os.O_CREAT)
    assert os.copy_file_range(fd, out, 10, 300000, 0) == 0
    assert os.copy_file_range(fd, out, 10, 400000, 0) == 0
    assert os.fstat(out).st_size == 0
    assert os.copy_file_range(fd, out, 100, 299990, 0) == 10
    fails(errno.EINVAL, os.copy_file_range, fd, fd, 1000, 0, 500)
    fails(errno.EINVAL, os.copy_file_range, fd, fd, 1000, 500, 0)
    copy_all(fd, fd, 1000, 0, 1000)
    same(os.pread(fd, 300000, 0), data[:1000] + data[:1000] + data[2000:], "beside each other")
    copy_all(fd, out, 5000, 7, 1 << 20)  # behind the end: a hole in between
    same(os.pread(out, 1 << 21, 0)[10:], bytes((1 << 20) - 10) + os.pread(fd, 5000, 7), "with a hole")
    reader = os.open(d + "/g", os.O_RDONLY)
    fails(errno.EBADF, os.copy_file_range, fd, reader, 10)
    directory = os.open(d, os.O_RDONLY)
    fails(errno.EISDIR, os.copy_file_range, directory, out, 10)
    append = os.open(d + "/g", os.O_WRONLY | os.O_APPEND)
    fails(errno.EBADF, os.copy_file_range, fd, append, 10)
    for x in fd, out, reader, directory, append:
        os.close(x)


@case
def copied_while_dirty(d):
    """copy_file_range copies what was written just before, and is not changed by what is written after"""
    a, b = os.open(d + "/a", os.O_RDWR | os.O_CREAT), os.open(d + "/b", os.O_RDWR | os.O_CREAT)
    for i in range(12):
        old = bytes([65 + i]) * 50000
        os.pwrite(a, old, 0)
        os.pwrite(b, b"before" * 10000, 0)
        copy_all(a, b, 50000, 0, 5000)
        os.pwrite(a, b"later" * 10000, 0)
        same(os.pread(b, 60000, 0), (b"before" * 10000)[:5000] + old + (b"before" * 10000)[55000:], "round %d" % i)
    os.close(a), os.close(b)


@case
def fallocate_refused(d):
    """fallocate: EBADF, EINVAL, EFBIG, ENODEV, ESPIPE, EOPNOTSUPP"""
    put(d + "/f", b"x")
    reader, fd = os.open(d + "/f", os.O_RDONLY), os.open(d + "/f", os.O_RDWR)
    fails(errno.EBADF, allocate, reader, 0, 0, 10)
    fails(errno.EINVAL, allocate, fd, 0, -1, 10)
    fails(errno.EINVAL, allocate, fd, 0, 0, -1)
    fails(errno.EFBIG, allocate, fd, 0, 2**63 - 10, 20)
    fails(errno.EOPNOTSUPP, allocate, fd, PUNCH_HOLE, 0, 10)
    fails(errno.EOPNOTSUPP, allocate, fd, PUNCH_HOLE | ZERO_RANGE | KEEP_SIZE, 0, 10)
    os.mkfifo(d + "/p")
    fifo = os.open(d + "/p", os.O_RDWR)
    fails(errno.ESPIPE, allocate, fifo, 0, 0, 10)
    assert get(d + "/f") == b"x"
    for x in reader, fd, fifo:
        os.close(x)


@case
def blocks_counted(d):
    """st_blocks: what was written and allocated, not holes; punching and truncating give it back"""
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)

    def blocks():
        os.fsync(fd)
        return os.fstat(fd).st_blocks * 512

    assert blocks() == 0
    os.ftruncate(fd, 10 << 20)
    assert blocks() == 0
    os.pwrite(fd, os.urandom(1 << 20), 1 << 20)
    assert blocks() == 1 << 20, blocks()
    os.pwrite(fd, os.urandom(1 << 19), 1 << 20)
    assert blocks() == 1 << 20, "written over counts once"
    allocate(fd, 0, 4 << 20, 2 << 20)
    assert blocks() == 3 << 20, blocks()
    os.pwrite(fd, os.urandom(1 << 20), 4 << 20)
    assert blocks() == 3 << 20, "written into what was allocated"
    allocate(fd, PUNCH_HOLE | KEEP_SIZE, 1 << 20, 1 << 19)
    assert blocks() == 5 << 19, blocks()
    allocate(fd, ZERO_RANGE, 4 << 20, 1 << 20)
    assert blocks() == 5 << 19, blocks()
    os.ftruncate(fd, 5 << 20)
    assert blocks() == 3 << 19, blocks()
    os.ftruncate(fd, 0)
    assert blocks() == 0
    os.close(fd)


@case
def seek_edges(d):
    """lseek: SEEK_HOLE at the end of data is the size; ENXIO at and behind it; EINVAL; SEEK_END"""
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    fails(errno.ENXIO, os.lseek, fd, 0, os.SEEK_DATA)
    fails(errno.ENXIO, os.lseek, fd, 0, os.SEEK_HOLE)
    os.pwrite(fd, b"x" * 100000, 0)
    for _ in range(2):
        assert os.lseek(fd, 5, os.SEEK_DATA) == 5
        assert os.lseek(fd, 5, os.SEEK_HOLE) == 100000
        assert os.lseek(fd, 99999, os.SEEK_DATA) == 99999
        fails(errno.ENXIO, os.lseek, fd, 100000, os.SEEK_DATA)
        fails(errno.ENXIO, os.lseek, fd, 100000, os.SEEK_HOLE)
        fails(errno.ENXIO, os.lseek, fd, 1 << 50, os.SEEK_DATA)
        os.fsync(fd)
    os.ftruncate(fd, 300000)
    assert os.lseek(fd, 50, os.SEEK_HOLE) == 100000 and os.lseek(fd, 250000, os.SEEK_HOLE) == 250000
    fails(errno.ENXIO, os.lseek, fd, 100000, os.SEEK_DATA)
    assert os.lseek(fd, 0, os.SEEK_END) == 300000 and os.lseek(fd, 10, os.SEEK_END) == 300010
    fails(errno.EINVAL, os.lseek, fd, -300001, os.SEEK_END)
    fails(errno.EINVAL, os.lseek, fd, -1, os.SEEK_SET)
    os.close(fd)
