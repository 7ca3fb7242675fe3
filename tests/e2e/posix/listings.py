"""readdir."""
import ctypes
import errno
import os
import socket
import stat

from helpers import case, fails, libc, put


@case
def big_directory(d):
    """what stays is listed exactly once while other names go"""
    names = {"file-%04d" % i for i in range(1100)}
    for name in names:
        os.close(os.open(d + "/" + name, os.O_CREAT | os.O_WRONLY))
    assert set(os.listdir(d)) == names
    seen, gone = [], set()
    with os.scandir(d) as entries:  # every second one goes while it is read
        for i, entry in enumerate(entries):
            seen.append(entry.name)
            if i % 2 == 0:
                os.unlink(entry.path)
                gone.add(entry.name)
    assert len(seen) == len(set(seen)) == 1100 and set(seen) == names
    assert set(os.listdir(d)) == names - gone
    for name in names - gone:
        os.unlink(d + "/" + name)
    assert os.listdir(d) == []


@case
def attributes_in_listings(d):
    """what changes while a directory is read is seen as it is afterwards"""
    for i in range(600):
        os.mkdir(d + "/%03d" % i)
    with os.scandir(d) as entries:
        next(entries)
        for i in range(600):  # behind what has been read
            os.mkdir(d + "/%03d/sub" % i)
        for entry in entries:
            assert os.stat(entry.path).st_nlink == 3, entry.name
    for i in range(600):
        assert os.stat(d + "/%03d" % i).st_nlink == 3, i


@case(slow=True)
def huge_directory(d):
    """20,000 names: each listed exactly once, looked up, removed"""
    names = {"n%05d" % i for i in range(20000)}
    for name in names:
        os.close(os.open(d + "/" + name, os.O_CREAT | os.O_WRONLY))
    listed = os.listdir(d)
    assert len(listed) == 20000 and set(listed) == names
    for name in "n00000", "n12345", "n19999":
        assert os.stat(d + "/" + name).st_size == 0
    assert os.stat(d).st_nlink == 2
    for name in names:
        os.unlink(d + "/" + name)
    assert os.listdir(d) == []


@case
def listed_while_changing(d):
    """names that stay are listed exactly once while a process makes and removes others"""
    stay = {"stay%03d" % i for i in range(300)}
    for name in stay:
        put(d + "/" + name, b"")
    stop = d + "/stop"
    pid = os.fork()
    if pid == 0:
        i = 0
        while not os.path.exists(stop) and i < 100000:
            put(d + "/come%d" % (i % 50), b"")
            if i % 3:
                os.rename(d + "/come%d" % (i % 50), d + "/go%d" % (i % 70))
            i += 1
        os._exit(0)
    try:
        for _ in range(20):
            listed = [name for name in os.listdir(d) if name in stay]
            assert len(listed) == len(stay) and set(listed) == stay, len(listed)
    finally:
        put(stop, b"")
        assert os.waitpid(pid, 0)[1] == 0


class Directory:
    """opendir of libc: it can tell and seek."""

    def __init__(self, path):
        for function, result in (("opendir", ctypes.c_void_p), ("readdir", ctypes.c_void_p),
                                 ("telldir", ctypes.c_long)):
            getattr(libc, function).restype = result
        self.handle = ctypes.c_void_p(libc.opendir(os.fsencode(path)))
        assert self.handle.value

    def read(self):
        at = libc.readdir(self.handle)
        if not at:
            return None
        kind = ctypes.string_at(at + 18, 1)[0]
        return ctypes.string_at(at + 19).decode(), kind

    def tell(self):
        return libc.telldir(self.handle)

    def seek(self, where):
        libc.seekdir(self.handle, ctypes.c_long(where))

    def rewind(self):
        libc.rewinddir(self.handle)

    def close(self):
        libc.closedir(self.handle)


@case
def telling_and_seeking(d):
    """seekdir goes where telldir was, also when names before it are gone; rewinddir sees new names"""
    for i in range(500):
        put(d + "/f%d" % i, b"")
    directory = Directory(d)
    seen, places = [], []
    while True:
        places.append(directory.tell())
        entry = directory.read()
        if entry is None:
            break
        seen.append(entry[0])
    assert sorted(seen) == sorted(["f%d" % i for i in range(500)] + [".", ".."])
    for i in 400, 17, 0, 501, 250:
        directory.seek(places[i])
        assert directory.read()[0] == seen[i], i
    directory.seek(places[502])
    assert directory.read() is None
    for name in seen[:200]:
        if name not in (".", ".."):
            os.unlink(d + "/" + name)
    directory.seek(places[250])
    rest = []
    while (entry := directory.read()) is not None:
        rest.append(entry[0])
    assert rest == seen[250:]
    put(d + "/new", b"")
    directory.rewind()
    again = []
    while (entry := directory.read()) is not None:
        again.append(entry[0])
    assert "new" in again and len(again) == len(set(again)) == len(os.listdir(d)) + 2
    directory.close()


@case
def kinds_in_listings(d):
    """d_type says what each entry is, and d_ino is st_ino"""
    put(d + "/f", b""), os.mkdir(d + "/d"), os.symlink("f", d + "/l"), os.mkfifo(d + "/p")
    s = socket.socket(socket.AF_UNIX)
    os.chdir(d)
    s.bind("s")
    want = {"f": stat.S_IFREG, "d": stat.S_IFDIR, "l": stat.S_IFLNK, "p": stat.S_IFIFO, "s": stat.S_IFSOCK,
            ".": stat.S_IFDIR, "..": stat.S_IFDIR}
    directory = Directory(d)
    got = {}
    while (entry := directory.read()) is not None:
        got[entry[0]] = entry[1] << 12
    directory.close()
    assert got == want, got
    with os.scandir(d) as entries:
        assert all(entry.inode() == os.lstat(entry.path).st_ino for entry in entries)
    s.close()


@case
def directory_as_a_file(d):
    """reading a directory is EISDIR, its size and links are sane, fsync of it works; removed it lists nothing"""
    os.mkdir(d + "/d")
    fd = os.open(d + "/d", os.O_RDONLY)
    fails(errno.EISDIR, os.read, fd, 10)
    os.fsync(fd)
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    assert os.listdir(fd) == ["f"]
    os.unlink("f", dir_fd=fd)
    os.rmdir(d + "/d")
    assert os.listdir(fd) == []
    fails(errno.ENOENT, os.open, "f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.fsync(fd)
    os.close(fd)
