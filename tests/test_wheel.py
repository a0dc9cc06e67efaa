"""The wheel holds everything that runs: modules, and every file that they read."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_has_all_files_of_the_packages(tmp_path):
    words = ("build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT))
    done = subprocess.run([sys.executable, "-P", "-m", *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert "clearclip = clearclip.__main__:main" in entry_points
    ours = [
        path.relative_to(ROOT).as_posix()
        for package in ("analysis", "clearclip", "figures")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "output" not in path.parts
    ]
    assert sum(name.endswith((".csv", ".txt", ".safetensors", ".mplstyle", ".pyi", "py.typed")) for name in ours) > 20
    assert not set(ours) - names
