"""What the cases share. A case is a function of one empty directory that anybody may write to; its
docstring says what POSIX or Linux asks for, and is printed with its result."""
import ctypes
import errno
import os
import pickle
import stat
import struct
import traceback

CASES = {}
NOBODY = 65534
SOMEBODY = 1234
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


def case(function=None, *, root=False, slow=False, needs=None):
    """root: only root can do that. slow: once is enough. needs: a mount that the runner has to make first."""
    def register(function):
        assert function.__doc__ and function.__name__ not in CASES, function.__name__
        function.root, function.slow, function.needs = root, slow, needs
        CASES[function.__name__] = function
        return function
    return register(function) if function else register


def fails(code, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except OSError as e:
        assert e.errno == code, (errno.errorcode[e.errno], "want", errno.errorcode[code])
        return
    raise AssertionError("no error, want " + errno.errorcode[code])


def check(result):
    """The result of a function of libc: below 0 is an error."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def put(path, data, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC, at=None):
    fd = os.open(path, flags, 0o644)
    try:
        if at is None:
            assert os.write(fd, data) == len(data)
        else:
            assert os.pwrite(fd, data, at) == len(data)
    finally:
        os.close(fd)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def same(got, want, what=""):
    if got != want:
        at = next((i for i, (x, y) in enumerate(zip(got, want)) if x != y), min(len(got), len(want)))
        raise AssertionError("%s: %d bytes, want %d, first difference at %d" % (what, len(got), len(want), at))


def expect(path, want):
    same(get(path), want, path)
    assert os.stat(path).st_size == len(want), (path, os.stat(path).st_size, len(want))


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def in_child(function, *args):
    """Runs it in a process of its own, and returns or raises here what it returned or raised there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            told = ("returned", function(*args))
        except OSError as e:
            told = ("error", (e.errno, str(e)))
        except BaseException:
            told = ("raised", traceback.format_exc())
        with os.fdopen(writer, "wb") as out:
            pickle.dump(told, out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        told = answer.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0 and told, "the child ended with status %#x" % status
    kind, value = pickle.loads(told)
    if kind == "error":
        raise OSError(*value)
    assert kind == "returned", value
    return value


def become(uid, gid, groups=()):
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)


def as_user(function, *args, uid=NOBODY, gid=NOBODY, groups=()):
    def run():
        become(uid, gid, groups)
        return function(*args)
    return in_child(run)


def nobody_fails(code, function, *args):
    fails(code, as_user, function, *args)


def allocate(fd, mode, offset, length):
    check(libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def renameat2(old, new, flags):
    check(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def name_it(fd, path):
    """linkat: gives a file without a name one."""
    follow = 0x400
    check(libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, os.fsencode(path), follow))


def capability():
    return struct.pack("<IIIII", 0x02000001, 0xC0, 0, 0, 0)


def has_xattr(path, name):
    try:
        os.getxattr(path, name)
    except OSError as e:
        assert e.errno == errno.ENODATA, errno.errorcode[e.errno]
        return False
    return True
