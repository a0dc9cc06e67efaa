"""Execute the notebooks from their scripts and write them with their output.

python notebooks/refresh.py          # all of them
python notebooks/refresh.py 2 4      # some, by their number
"""

import base64
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).parent
SCRIPTS = sorted(FOLDER.glob("[0-9]_*.py"))
PAIR = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SECONDS = 1200  # for one cell, on a machine that is busy with other things


def from_script(script: Path) -> NotebookNode:
    """The notebook of a script, without output."""
    notebook = jupytext.read(script, fmt="py:percent")
    notebook.metadata, notebook.nbformat, notebook.nbformat_minor = nbformat.from_dict(PAIR), 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", nbformat.from_dict({})
    return notebook


def executed(notebook: NotebookNode) -> NotebookNode:
    """The notebook with its output, from a new kernel of this interpreter, whatever kernels are installed.

    It runs as nbmake runs it, without a network, with pictures inline. Raises `RuntimeError` with the failing cell.
    """
    from nbmake.nb_run import NotebookRun

    with tempfile.TemporaryDirectory() as folder:
        kernel = Path(folder, "kernels", "this-interpreter", "kernel.json")
        kernel.parent.mkdir(parents=True)
        inline = "module://matplotlib_inline.backend_inline"
        settings = {"MPLBACKEND": inline, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "IPYTHONDIR": folder}
        settings["PYTHONWARNINGS"] = "ignore:IProgress not found"  # no bar is drawn, so no widgets are needed
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=40"]
        about = {"argv": command, "display_name": "this interpreter", "language": "python", "env": settings}
        kernel.write_text(json.dumps(about))
        file = Path(folder, "notebook.ipynb")
        nbformat.write(notebook, file)
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = folder
        try:
            result = NotebookRun(file, SECONDS, kernel=kernel.parent.name).execute()
        finally:
            os.environ.pop("JUPYTER_PATH") if before is None else os.environ.update(JUPYTER_PATH=before)
    if result.error is not None:
        trace = re.sub(r"\x1b\[[0-9;]*m", "", result.error.trace)  # without colours
        raise RuntimeError(f"cell {result.error.failing_cell_index}: {trace}")
    for cell in result.nb.cells:
        cell.metadata = nbformat.from_dict({})  # nbmake notes when each cell ran
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
    result.nb.metadata = nbformat.from_dict(PAIR)
    return result.nb


def smaller(png: str) -> str:
    """A picture (PNG in base64) with 16 levels of red, green and blue: a third of the size where it shows photos."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        pixels = np.asarray(picture.convert("RGB")) / 255
    file = io.BytesIO()
    Image.fromarray(((pixels * 15).round() / 15 * 255).round().astype(np.uint8)).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    for script in SCRIPTS:
        if len(sys.argv) == 1 or script.name[0] in sys.argv[1:]:
            nbformat.write(executed(from_script(script)), script.with_suffix(".ipynb"))
            print(f"wrote {script.with_suffix('.ipynb').name}")
