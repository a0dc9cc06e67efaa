"""Every command ends in a message and an exit code; a traceback is only shown with --debug."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import process

from clearclip import boundary

COMMAND = """
import os, signal, sys, time
from clearclip.boundary import run

def main():
    print("begun", flush=True)
    {action}

run(main)
"""


def command(action, *words, cwd, **env):
    return process("-c", COMMAND.format(action=action), *words, cwd=cwd, **env)


@pytest.mark.parametrize(
    ("action", "code", "words"),
    [
        ("return None", 0, ""),
        ("return 1", 1, ""),
        ("open('nowhere')", 2, "error: nowhere: No such file or directory\n"),
        ("raise MemoryError", 2, "--batch-size"),
        (
            "{}['key']",
            70,
            "error: KeyError: 'key'. This is a bug in clearclip-analysis. Repeat the command with --debug",
        ),
        ("os.kill(os.getpid(), signal.SIGINT)", 130, "interrupted; what is written is kept"),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", 143, "terminated; what is written is kept"),
        ("print(os.fsdecode(b'\\\\xff'))", 0, ""),
    ],
)
def test_what_a_command_ends_with(action, code, words, tmp_path):
    done = command(action.replace("{}", "dict()"), cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (code, "begun")
    assert words in done.stderr and "Traceback" not in done.stderr and bool(words) == bool(done.stderr)


@pytest.mark.parametrize(("action", "code"), [("dict()['key']", 70), ("open('nowhere')", 2)])
def test_debug_shows_the_traceback_and_keeps_it_in_a_file(action, code, tmp_path):
    done = command(action, "--debug", "--model", "x", cwd=tmp_path, TMPDIR=str(tmp_path))
    assert done.returncode == code and "Traceback" in done.stderr and "in main" in done.stderr
    kept = Path(re.search(r"this is kept in (\S+)", done.stderr)[1])
    assert kept.parent == tmp_path
    report = kept.read_text("utf-8")
    assert "--model x" in report and "torch 2" in report and "in main" in report
    assert "Repeat the command" not in done.stderr


def test_debug_says_where_a_library_crashed(tmp_path):
    crash = "import ctypes; ctypes.string_at(0)"
    assert "Segmentation fault" in command(crash, "--debug", cwd=tmp_path).stderr
    assert not command(crash, cwd=tmp_path).stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_one_message(tmp_path):
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-c", COMMAND.format(action="pass").replace(", flush=True", "")]
        done = subprocess.run(words, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: no space is left")
    assert len(done.stderr.splitlines()) == 1


def test_sigterm_means_again_what_it_meant_before():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        boundary.run(lambda: 0)
    assert signal.getsignal(signal.SIGTERM) is before
