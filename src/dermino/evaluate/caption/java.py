"""The COCO evaluation's Java programs: Stanford's tokeniser and METEOR 1.5, from pycocoevalcap."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

_TOKENISER = (
    *("-cp", "stanford-corenlp-3.4.1.jar", "edu.stanford.nlp.process.PTBTokenizer"),
    *("-preserveLines", "-lowerCase", "-encoding", "UTF-8"),
)
_METEOR = (
    *("-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"),
    # It looks here anyway, but in vain where the path to its folder has a blank.
    *("-a", "data/paraphrase-en.gz"),
)
_STATISTICS = 23


class JavaFailed(Exception):  # noqa: N818 - a state of the machine, told as a reason.
    """A Java program is not there or does not do its work; the message says why."""


def java() -> str:
    """Return the path of ``java``; raise :class:`JavaFailed` where there is none."""
    found = shutil.which("java")
    if found is None:
        raise JavaFailed("it needs Java, which is not here: install a Java runtime (8 or newer)")
    return found


def tokenise(texts: Sequence[str]) -> list[str]:
    """Put texts in lower case, tokens apart by blanks, without punctuation, as COCO does.

    Raises
    ------
    JavaFailed
        If there is no Java or the tokeniser fails.
    """
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    given = "".join(" ".join(text.split()) + "\n" for text in texts)
    lines = _run("tokenizer", _TOKENISER, given)
    if len(lines) != len(texts):
        raise JavaFailed(f"Stanford's tokeniser gave {len(lines)} lines for {len(texts)} captions")
    return [" ".join(word for word in line.split() if word not in PUNCTUATIONS) for line in lines]


def meteor_statistics(references: Sequence[Sequence[str]], generated: Sequence[str]) -> np.ndarray:
    """Return METEOR's counts for each image, shape (n, 23), float64.

    Parameters
    ----------
    references:
        One or more tokenised captions an image; METEOR counts for the one that fits best.
    generated:
        The tokenised caption to be judged of each image.

    Raises
    ------
    JavaFailed
        If there is no Java or METEOR fails.
    """
    given = "".join(
        " ||| ".join(["SCORE", *(text.replace("|||", " ") for text in [*texts, own])]) + "\n"
        for texts, own in zip(references, generated, strict=True)
    )
    lines = _run("meteor", _METEOR, given)
    try:
        counts = [[float(number) for number in line.split()] for line in lines]
        return np.array(counts).reshape(len(generated), _STATISTICS)
    except ValueError as error:
        raise JavaFailed(f"METEOR's answer cannot be read: {error}") from error


def _run(package: str, arguments: Sequence[str], given: str) -> list[str]:
    """Run a jar of pycocoevalcap's in its folder, where it looks for its data."""
    spec = find_spec(f"pycocoevalcap.{package}")
    if spec is None or not spec.submodule_search_locations:
        raise JavaFailed("pycocoevalcap is not installed: pip install 'dermino[captions]'")
    done = subprocess.run(
        # Java 17 and older take the encoding from the locale, which may be ASCII.
        [java(), "-Dfile.encoding=UTF-8", *arguments],
        cwd=Path(next(iter(spec.submodule_search_locations))),
        input=given.encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise JavaFailed(f"Java failed: {lines[0]}")
    return done.stdout.decode().splitlines()
