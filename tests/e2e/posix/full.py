"""When no chunk server takes anything any more."""
import errno
import mmap
import os
import time

from helpers import allocate, case, fails, get, put


def fill(d, step=1 << 20):
    """Writes files until ENOSPC comes; what was synced stays."""
    fd = os.open(d + "/filler", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    data, size = os.urandom(step), 0
    try:
        for _ in range(400):
            os.write(fd, data)
            os.fsync(fd)
            size += step
    except OSError as e:
        assert e.errno == errno.ENOSPC, errno.errorcode[e.errno]
        return fd, size
    raise AssertionError("it does not get full")


@case(needs="full")
def no_space(d):
    """write says ENOSPC itself once the disks are full; what was synced is there; unlink works; then room again"""
    wait_for_room(d)
    put_synced(d + "/precious", b"p" * 100000)
    os.mkdir(d + "/dir")
    fd, size = fill(d)
    fails(errno.ENOSPC, write_much, fd)
    assert get(d + "/precious") == b"p" * 100000
    filler = get(d + "/filler")
    assert len(filler) >= size and filler[:1 << 20] == filler[size - (1 << 20):size]
    # Names are the metadata servers': they go on.
    os.rename(d + "/precious", d + "/dir/precious")
    os.chmod(d + "/dir", 0o700)
    os.unlink(d + "/dir/precious")
    os.ftruncate(fd, 5)
    assert os.pread(fd, 10, 0) == filler[:5]
    os.close(fd)
    os.unlink(d + "/filler")
    assert os.listdir(d) == ["dir"]
    wait_for_room(d)


@case(needs="full")
def said_by_write(d):
    """nothing synced: ENOSPC comes from write, never behind its answer; close says nothing, what was taken is there"""
    wait_for_room(d)
    fd = os.open(d + "/big", os.O_WRONLY | os.O_CREAT)
    blocks = []
    try:
        for _ in range(400):
            blocks.append(os.urandom(1 << 20))
            if os.write(fd, blocks[-1]) < 1 << 20:
                break
        else:
            raise AssertionError("it does not get full")
    except OSError as e:
        assert e.errno == errno.ENOSPC, errno.errorcode[e.errno]
    os.close(fd)  # an error that came late would be told here, or by fsync
    fd = os.open(d + "/big", os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    for n, block in enumerate(blocks[:-1]):
        assert os.pread(fd, 1 << 20, n << 20) == block, "block %d of %d is gone" % (n, len(blocks))
    os.close(fd)
    os.unlink(d + "/big")
    wait_for_room(d)


def nearly_fill(d):
    """Leaves room for 4 to 12 MiB."""
    try:
        for n in range(400):
            put_synced(d + "/filler%d" % n, os.urandom(1 << 20))
    except OSError as e:
        assert e.errno == errno.ENOSPC, errno.errorcode[e.errno]
    for i in range(n - 12, n):
        os.unlink(d + "/filler%d" % i)
    wait_for_room(d, 5 << 20)


@case(needs="full")
def others_stay(d):
    """whose write meets ENOSPC loses nothing that was answered before, in this file or in others"""
    wait_for_room(d)
    nearly_fill(d)
    fd = os.open(d + "/grows", os.O_RDWR | os.O_CREAT)
    first, small, refused = os.urandom(8192), os.urandom(3000), False
    os.pwrite(fd, first[:4096], 0)
    os.pwrite(fd, first[4096:], 4096)
    for n in range(40):
        put(d + "/small%d" % n, small)  # not synced
        try:
            os.pwrite(fd, os.urandom(1 << 20), 8192 + (n << 20))
        except OSError as e:
            assert e.errno == errno.ENOSPC, errno.errorcode[e.errno]
            refused = True
            break
    assert refused
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(fd, 8192, 0) == first and os.fstat(fd).st_size >= 8192 + (n << 20)
    os.close(fd)
    for i in range(n + 1):
        assert get(d + "/small%d" % i) == small, i
    for name in os.listdir(d):
        os.unlink(d + "/" + name)
    wait_for_room(d)


def write_much(fd):
    for _ in range(8):
        os.write(fd, os.urandom(1 << 20))


def put_synced(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        assert os.write(fd, data) == len(data)
        os.fsync(fd)
    finally:
        os.close(fd)


def has_room(d, size):
    if os.statvfs(d).f_bavail * os.statvfs(d).f_frsize < size:
        return False
    try:
        put_synced(d + "/room", os.urandom(1 << 20))
        return True
    except OSError as e:
        assert e.errno == errno.ENOSPC, errno.errorcode[e.errno]
        return False
    finally:
        os.unlink(d + "/room")


def wait_for_room(d, size=40 << 20):
    """The space of removed files comes back when the chunk servers have cleaned up and looked at their disks."""
    end = time.monotonic() + 60
    while not has_room(d, size):
        assert time.monotonic() < end, os.statvfs(d)
        time.sleep(0.1)


@case(needs="full")
def allocated_space(d):
    """fallocate of more than is free is ENOSPC and changes nothing; what it gave is taken off the rest"""
    wait_for_room(d)
    free = os.statvfs(d).f_bavail * os.statvfs(d).f_frsize
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    fails(errno.ENOSPC, allocate, fd, 0, 0, free * 2)
    assert os.fstat(fd).st_size == 0 and os.fstat(fd).st_blocks == 0
    allocate(fd, 0, 0, free // 2)
    other = os.open(d + "/g", os.O_RDWR | os.O_CREAT)
    fails(errno.ENOSPC, allocate, other, 0, 0, free * 3 // 4)
    assert os.fstat(other).st_size == 0
    os.close(fd), os.close(other)


@case(needs="full")
def no_space_for_others(d):
    """on full disks a synchronous write and msync say ENOSPC; small files and shared copies need no space"""
    wait_for_room(d)
    put_synced(d + "/shared", b"s" * 300000)
    fd, _ = fill(d)
    synchronous = os.open(d + "/sync", os.O_WRONLY | os.O_CREAT | os.O_DSYNC)
    fails(errno.ENOSPC, os.write, synchronous, os.urandom(1 << 20))
    os.close(synchronous)
    mapped = os.open(d + "/mapped", os.O_RDWR | os.O_CREAT)
    os.ftruncate(mapped, 1 << 20)
    m = mmap.mmap(mapped, 1 << 20)
    m[:] = os.urandom(1 << 20)
    fails(errno.ENOSPC, m.flush)
    m.close()
    os.close(mapped)
    put(d + "/small", b"in the inode")
    os.sync()
    assert get(d + "/small") == b"in the inode"
    source, copy = os.open(d + "/shared", os.O_RDONLY), os.open(d + "/copy", os.O_RDWR | os.O_CREAT)
    assert os.copy_file_range(source, copy, 300000) == 300000
    assert os.pread(copy, 300000, 0) == b"s" * 300000
    for x in source, copy, fd:
        os.close(x)
    for name in os.listdir(d):
        os.unlink(d + "/" + name)
    wait_for_room(d)
