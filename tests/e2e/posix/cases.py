"""cases.py [--as-user] [--brief] [--needs MOUNT] [--only CASE] LABEL DIRECTORY: runs cases, each in a process
and a directory of its own; a line "ok - ..." or "not ok - ..." for each.

  --as-user   as an ordinary user: those that need no root
  --brief     those that are not slow
  --needs     those that need this; where it is the environment says (POSIX_...)
"""
import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

from helpers import CASES, SOMEBODY, become

SUBJECTS = ("content", "opens", "mapped", "allocation", "rights", "acls", "xattrs", "flags", "times", "names",
            "listings", "errnos", "special", "mounts", "full")
SECONDS = 120


def run_child(function, directory, as_user, log):
    signal.alarm(SECONDS)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        os.umask(0o022)
        if as_user:
            become(SOMEBODY, SOMEBODY)
        function(directory)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def run(function, label, parent, as_user):
    directory = os.path.join(parent, "%s-%s" % (label.replace(", ", "-"), function.__name__))
    os.mkdir(directory)
    os.chmod(directory, 0o1777)
    begin = time.monotonic()
    with tempfile.TemporaryFile() as log:
        pid = os.fork()
        if pid == 0:
            run_child(function, directory, as_user, log.fileno())
        _, status = os.waitpid(pid, 0)
        took = time.monotonic() - begin
        print("%s - posix: %s: %s: %s%s" % ("ok" if status == 0 else "not ok", label, function.__name__,
              function.__doc__, " (%.1f s)" % took if took >= 1 else ""), flush=True)
        if status != 0:
            log.seek(0)
            said = log.read().decode(errors="replace").splitlines()[-12:]
            said += ["status %#x" % status] if os.WIFSIGNALED(status) else []
            print("\n".join("    " + line for line in said), flush=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def wanted(function, args):
    if args.only:
        return function.__name__ == args.only
    return (function.needs == args.needs and not (args.as_user and function.root)
            and not (args.brief and function.slow))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--as-user", action="store_true")
    parser.add_argument("--brief", action="store_true")
    parser.add_argument("--needs")
    parser.add_argument("--only")
    parser.add_argument("label")
    parser.add_argument("directory")
    args = parser.parse_args()
    for subject in SUBJECTS:
        importlib.import_module(subject)
    functions = [function for function in CASES.values() if wanted(function, args)]
    assert functions, "no such case"
    for function in functions:
        run(function, args.label, args.directory, args.as_user)


if __name__ == "__main__":
    main()
