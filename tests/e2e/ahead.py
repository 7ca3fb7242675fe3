"""Cases of tests/e2e/ahead: CASE DIR [ARGUMENTS]. Exit 0 = as it must be."""
import mmap
import os
import pickle
import random
import subprocess
import sys
import threading
import time

SIZES = (0, 1, 100, 4095, 4096, 4097, 8192, 20000)


def name(i):
    return "file%05d" % i


def body(i, tag):
    return (b"%s %d\n" % (tag, i) * 3000)[: SIZES[i % len(SIZES)]]


def put(path, data):
    with open(path, "wb") as out:
        out.write(data)


def get(path):
    with open(path, "rb") as inp:
        return inp.read()


def make(top, count):
    os.mkdir(top)
    for i in range(int(count)):
        put("%s/%s" % (top, name(i)), body(i, b"made"))


def numbers(first, end):
    return range(int(first), int(end))


def read(top, first, end):
    for i in numbers(first, end):
        if SIZES[i % len(SIZES)] <= 8192:  # larger ones are on the chunk servers
            assert get("%s/%s" % (top, name(i))) == body(i, b"made"), i


def change(top, first, end):
    """What happens to a file is decided by its number."""
    for i in numbers(first, end):
        path = "%s/%s" % (top, name(i))
        what = i % 6
        if what == 0:
            put(path, body(i + 1, b"changed"))
        elif what == 1:
            os.unlink(path)
        elif what == 2:
            os.rename(path, path + ".renamed")
        elif what == 3:
            put(path + ".new", body(i + 1, b"replaced"))
            os.rename(path + ".new", path)
        elif what == 4:
            os.truncate(path, 10)
            put(path + ".made", b"made")
        else:
            os.chmod(path, 0o600)


def expected(i):
    """Name -> contents."""
    return (
        {"": body(i + 1, b"changed")},
        {},
        {".renamed": body(i, b"made")},
        {"": body(i + 1, b"replaced")},
        {"": body(i, b"made")[:10].ljust(10, b"\0"), ".made": b"made"},
        {"": body(i, b"made")},
    )[i % 6]


def changed(top, first, end):
    for i in numbers(first, end):
        want = expected(i)
        for suffix in ("", ".renamed", ".new", ".made"):
            path = "%s/%s%s" % (top, name(i), suffix)
            assert os.path.exists(path) == (suffix in want), path
            if suffix in want:
                assert os.stat(path).st_size == len(want[suffix]), path
                assert get(path) == want[suffix], path
        if i % 6 == 5:
            assert os.stat("%s/%s" % (top, name(i))).st_mode & 0o777 == 0o600, i


def known_path(top, seed):
    return "/tmp/keelfs-ahead-%s-%s" % (seed, top.replace("/", "_"))


def get_mapped(path):
    if os.stat(path).st_size == 0:
        return b""
    with open(path, "rb") as inp, mmap.mmap(inp.fileno(), 0, prot=mmap.PROT_READ) as view:
        return bytes(view)


def overwrite(path, at, data):
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, data, at)
    os.close(fd)


def step(rng, top, known):
    """One random operation on one of few files, here and in `known`."""
    n = "m%02d" % rng.randrange(40)
    path = "%s/%s" % (top, n)
    data = bytes([rng.randrange(256)]) * rng.choice((1, 50, 4000, 4096, 8000, 8192, 12000))
    what = rng.randrange(9)
    if n not in known or what == 0:
        put(path, data)
        known[n] = data
    elif what == 1:
        at = rng.randrange(len(known[n]) + 1)
        overwrite(path, at, data[:100])
        known[n] = known[n][:at] + data[:100] + known[n][at + len(data[:100]) :]
    elif what == 2:
        size = rng.randrange(9000)
        os.truncate(path, size)
        known[n] = known[n][:size].ljust(size, b"\0")
    elif what == 3:
        put(path + "~", data)
        os.rename(path + "~", path)
        known[n] = data
    elif what == 4:
        os.unlink(path)
        del known[n]
    elif what == 5:
        with open(path, "ab") as out:
            out.write(data[:10])
        known[n] += data[:10]
    elif what == 6:
        assert get_mapped(path) == known[n], path
    elif what == 7:
        subprocess.run(["sync", path], check=True)
    else:
        assert get(path) == known[n], path


def model(top, seed):
    """Goes on from where the last round ended, as files that are cold now."""
    rng = random.Random(int(seed))
    before = known_path(top, int(seed) - 1)
    known = pickle.load(open(before, "rb")) if os.path.exists(before) else {}
    for _ in range(1500):
        step(rng, top, known)
        if rng.randrange(300) == 0:
            put("/proc/sys/vm/drop_caches", b"3")
    pickle.dump(known, open(known_path(top, seed), "wb"))
    if os.path.exists(before):
        os.unlink(before)


def verify(top, seed):
    known = pickle.load(open(known_path(top, seed), "rb"))
    assert sorted(os.listdir(top)) == sorted(known)
    for n in known:
        assert get("%s/%s" % (top, n)) == known[n], n
        assert get_mapped("%s/%s" % (top, n)) == known[n], n


def storm_one(top, seed, end):
    rng = random.Random(seed)
    while time.time() < end:
        which = rng.randrange(8)
        path = "%s/%d" % (top, which)
        try:
            what = rng.randrange(8)
            if what == 0 and which % 2 == 0:  # the others are mapped: no SIGBUS
                os.truncate(path, rng.randrange(9000))
            elif what == 1:
                put("%s.%d" % (path, seed), b"x" * rng.randrange(9000))
                os.rename("%s.%d" % (path, seed), path)
            elif what == 2:
                overwrite(path, rng.randrange(5000), b"y" * 1000)
            elif what == 3 and which % 2 == 1:
                get_mapped(path)
            elif what == 4 and rng.randrange(8) == 0:
                put("/proc/sys/vm/drop_caches", b"3")
            else:
                get(path)
        except (FileNotFoundError, ValueError):
            pass  # replaced or truncated meanwhile


def storm(top, seconds):
    os.mkdir(top)
    for i in range(8):
        put("%s/%d" % (top, i), b"z" * 5000)
    end = time.time() + float(seconds)
    threads = [threading.Thread(target=storm_one, args=(top, s, end)) for s in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


CASES = {"make": make, "touch": read, "read": read, "change": change, "changed": changed,
         "model": model, "verify": verify, "storm": storm}
CASES[sys.argv[1]](*sys.argv[2:])
