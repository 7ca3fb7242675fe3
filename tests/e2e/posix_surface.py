"""posix_surface.py [[--as-user] CASE DIRECTORY]: one case in an empty directory; without arguments: their
names; --for-users: the names of those that an ordinary user can run as well.

What Linux offers beyond the basics of posix_basic.py.
"""
import errno
import os
import stat
import struct
import sys

from posix_basic import NOBODY, as_nobody, fails, get, nobody_fails, put

CASES = {}
SOMEBODY = 1234
FOR_ROOT = set()
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
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
