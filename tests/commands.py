"""A command as a user runs it: `here`, in this process, where that tests the same thing, or `process`, in a new one."""

import io
import os
import runpy
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout

import pytest


def here(module, *words, cwd):
    """`python -m module words` in this process; only the door is run anew, the rooms behind it are those a test has patched."""
    command, out, err, code = [module, *map(str, words)], io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* found in sys.modules", RuntimeWarning)
        patch.chdir(cwd)
        patch.setenv("MPLBACKEND", "agg")
        patch.setattr(sys, "argv", command)
        patch.setattr(sys, "unraisablehook", sys.unraisablehook)  # which a command silences
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as stopped:
            code = stopped.code
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def process(*words, cwd, **env):
    """`python words` in a process of its own, without the network."""
    command = [sys.executable, *map(str, words)]
    env = {**os.environ, "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", env=env, timeout=300)


def files(folder):
    """What was written below a folder, without text embeddings in texts/."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.startswith("texts/"))
