"""LaTeX as it comes out on paper."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest


def typeset(folder: Path, packages: str, *body: str) -> None:
    """Sets text on letter paper with margins of an inch, and asserts that all of it fits.

    Args:
        folder: for the files.
        packages: that the text needs, apart by commas.
        body: of the document.
    """
    if shutil.which("pdflatex") is None:
        pytest.skip("there is no pdflatex")
    document = [
        r"\documentclass{article}",
        r"\usepackage[letterpaper, margin=1in]{geometry}",
        rf"\usepackage{{{packages}}}",
        r"\extrafloats{100}",
        r"\begin{document}",
        *body,
        r"\end{document}",
    ]
    (folder / "tables.tex").write_text("\n".join(document))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout
    log = (folder / "tables.log").read_text(errors="replace")
    assert not re.findall(r"Overfull.*|Missing character.*|Float too large.*", log)
