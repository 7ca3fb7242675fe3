"""What a file contains: sizes, holes, appending, the largest offset."""
import errno
import os
import random
import resource
import signal
import threading

from helpers import allocate, case, expect, fails, in_child, put, same


@case
def truncate_and_extend(d):
    """what was cut off reads as zeros when the file grows again"""
    for size in (100, 5000, 8192, 8193, 100000, 5000000):
        for sync in (False, True):
            path = d + "/f"
            data = bytearray(os.urandom(size))
            put(path, data)
            fd = os.open(path, os.O_RDWR)
            if sync:
                os.fsync(fd)
            os.ftruncate(fd, size // 2)
            expect(path, bytes(data[:size // 2]))
            os.ftruncate(fd, size)
            expect(path, bytes(data[:size // 2]) + bytes(size - size // 2))
            os.pwrite(fd, b"tail", size + 10)
            want = bytes(data[:size // 2]) + bytes(size - size // 2 + 10) + b"tail"
            expect(path, want)
            if sync:
                os.fsync(fd)
            expect(path, want)
            os.ftruncate(fd, 0)
            expect(path, b"")
            os.pwrite(fd, b"x", 3)
            expect(path, b"\0\0\0x")
            os.close(fd)
            os.unlink(path)


@case
def sparse(d):
    """what was never written reads as zeros and takes no space"""
    path = d + "/f"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 1 << 40)
    os.pwrite(fd, b"a", 0)
    os.pwrite(fd, b"b", (1 << 39) + 5)
    os.fsync(fd)
    assert os.fstat(fd).st_size == 1 << 40
    assert os.pread(fd, 3, 0) == b"a\0\0"
    assert os.pread(fd, 3, (1 << 39) + 4) == b"\0b\0"
    assert os.pread(fd, 10, (1 << 40) - 2) == b"\0\0"
    assert os.fstat(fd).st_blocks * 512 < 1 << 20
    fails(errno.EINVAL, os.ftruncate, fd, -1)
    os.close(fd)


@case
def inline_grows(d):
    """a file that outgrows its inode keeps its contents"""
    path = d + "/f"
    want = b""
    for step in (10, 4000, 4182, 1, 8000, 100000, 70000):
        data = os.urandom(step)
        put(path, data, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        want += data
        expect(path, want)
        fd = os.open(path, os.O_RDWR)
        os.fsync(fd)
        os.pwrite(fd, b"!", 5)
        os.close(fd)
        want = want[:5] + b"!" + want[6:]
        expect(path, want)


@case
def append(d):
    """O_APPEND writes at the end, through two descriptors and after a truncate"""
    path = d + "/f"
    first = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    second = os.open(path, os.O_WRONLY | os.O_APPEND)
    want = b""
    for i in range(300):
        os.write((first, second)[i % 2], b"%05d\n" % i)
        want += b"%05d\n" % i
        if i % 50 == 7:
            os.fsync(first)
        if i == 150:
            os.ftruncate(second, 0)
            want = b""
    os.close(first), os.close(second)
    expect(path, want)


@case
def open_truncates(d):
    """O_TRUNC empties the file, also for who has it open"""
    path = d + "/f"
    for size in (100, 20000):
        put(path, b"x" * size)
        put(path, b"y")
        expect(path, b"y")
        reader = os.open(path, os.O_RDONLY)
        put(path, b"")
        assert os.read(reader, 10) == b""
        os.close(reader)
    fd = os.open(path, os.O_RDWR | os.O_TRUNC)
    for i in range(50):
        os.pwrite(fd, b"z" * 30000, 0)
        os.ftruncate(fd, i)
        assert os.fstat(fd).st_size == i
    os.fsync(fd)
    os.close(fd)
    expect(path, b"z" * 49)


@case
def truncated_while_synced(d):
    """fsync ends though its data is cut off meanwhile"""
    path = d + "/f"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    others = [os.open(d + "/o%d" % i, os.O_RDWR | os.O_CREAT) for i in range(8)]
    for i in range(30):
        for other in others:  # as many flush rounds as may be
            os.pwrite(other, b"o" * 300000, 0)
        threads = [threading.Thread(target=os.fsync, args=(x,)) for x in others + [fd]]
        os.pwrite(fd, b"x" * 100000, 0)
        [t.start() for t in threads]
        os.ftruncate(fd, 0)
        [t.join(20) for t in threads]
        assert not any(t.is_alive() for t in threads), "hangs"
    os.close(fd), [os.close(x) for x in others]


@case
def huge_and_sparse(d):
    """a file of nearly 8 EiB with three bytes in it"""
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"end", 2**63 - 1 - 3 - 4096)
    os.fsync(fd)
    assert os.fstat(fd).st_size == 2**63 - 1 - 4096 and os.fstat(fd).st_blocks <= 16
    assert os.lseek(fd, 0, os.SEEK_DATA) >= 2**63 - 3 * 4096
    assert os.pread(fd, 10, 2**63 - 1 - 3 - 4096) == b"end"
    os.close(fd)


LARGEST = 2**63 - 1


@case
def largest_offset(d):
    """the largest file has 2^63 - 1 bytes; a write across that is refused"""
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, LARGEST)
    assert os.fstat(fd).st_size == LARGEST
    assert os.pread(fd, 5, LARGEST - 5) == bytes(5)
    os.ftruncate(fd, 0)
    assert os.pwrite(fd, b"z", LARGEST - 1) == 1
    os.fsync(fd)
    assert os.fstat(fd).st_size == LARGEST
    assert os.pread(fd, 1, LARGEST - 1) == b"z"
    fails(errno.EINVAL, os.pwrite, fd, b"zz", LARGEST - 1)  # offset and count overflow
    assert os.fstat(fd).st_blocks <= 16
    os.ftruncate(fd, 3)
    assert os.pread(fd, 10, 0) == bytes(3)
    os.close(fd)


@case
def size_limit(d):
    """RLIMIT_FSIZE: a write across it is short, one behind it EFBIG and SIGXFSZ; truncate, fallocate too"""
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10000, resource.RLIM_INFINITY))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGXFSZ})

        def told():
            return signal.sigtimedwait({signal.SIGXFSZ}, 0) is not None

        fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
        assert os.pwrite(fd, b"x" * 20000, 0) == 10000
        assert os.pwrite(fd, b"x" * 10, 9995) == 5
        assert not told()
        fails(errno.EFBIG, os.pwrite, fd, b"x", 10000)
        assert told()
        fails(errno.EFBIG, os.ftruncate, fd, 10001)
        assert told()
        os.ftruncate(fd, 9000)
        fails(errno.EFBIG, allocate, fd, 0, 0, 20000)
        told()
        os.ftruncate(fd, 10000)
        os.fsync(fd)
        assert os.fstat(fd).st_size == 10000
        append = os.open(d + "/f", os.O_WRONLY | os.O_APPEND)
        fails(errno.EFBIG, os.write, append, b"x")
        assert told()
        os.close(fd), os.close(append)
    in_child(limited)
    expect(d + "/f", b"x" * 9000 + bytes(1000))


@case
def size_limit_kills(d):
    """SIGXFSZ ends a program that does not catch it"""
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        put(d + "/f", b"x", at=100)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXFSZ, status
    expect(d + "/f", b"")


@case
def sparse_tails(d):
    """the tail behind the last byte is zeros, after any truncate and extension, on both sides of a page"""
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    want = bytearray()
    dice = random.Random(7)
    for i in range(150):
        size = dice.choice((0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 65535, 65536, 131073, 200000))
        if dice.random() < 0.5:
            os.ftruncate(fd, size)
            want = want[:size] + bytes(size - len(want[:size]))
        else:
            data = dice.randbytes(dice.choice((1, 100, 5000)))
            os.pwrite(fd, data, size)
            want = want[:size] + bytes(size - len(want[:size])) + data + want[size + len(data):]
        if dice.random() < 0.1:
            os.fsync(fd)
        same(os.pread(fd, len(want) + 10, 0), want, "step %d" % i)
    os.close(fd)
    expect(d + "/f", bytes(want))


@case
def reads_and_writes_at_the_edge(d):
    """read at the end is 0, a read across it short; preadv, pwritev; EBADF; writing nothing changes nothing"""
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    before = os.fstat(fd)
    assert os.write(fd, b"") == 0 and os.fstat(fd).st_mtime_ns == before.st_mtime_ns
    assert os.pwritev(fd, [b"one", b"", b"two" * 5000], 10) == 15003
    assert os.pread(fd, 100000, 15000) == (b"two" * 5)[-13:]
    assert os.pread(fd, 10, 15013) == b"" and os.pread(fd, 10, 1 << 40) == b""
    parts = [bytearray(5), bytearray(20000)]
    assert os.preadv(fd, parts, 8) == 15005
    assert bytes(parts[0]) == b"\0\0one" and parts[1][:15000] == b"two" * 5000
    writer, reader = os.open(d + "/f", os.O_WRONLY), os.open(d + "/f", os.O_RDONLY)
    fails(errno.EBADF, os.read, writer, 1)
    fails(errno.EBADF, os.write, reader, b"x")
    fails(errno.EINVAL, os.pread, fd, 1, -1)
    fails(errno.EINVAL, os.ftruncate, fd, -1)
    for x in fd, writer, reader:
        os.close(x)
