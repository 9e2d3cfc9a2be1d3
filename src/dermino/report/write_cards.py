"""Writing model cards: one folder an encoder, as the Hugging Face hub wants it, and one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dermino import __version__
from dermino.evaluate.metric_names import metric_title
from dermino.evaluate.task import file_name
from dermino.files import writable_folder, write_text
from dermino.report.model_card import INTENDED_USE, LIMITS, NOT_FOR, ModelCard
from dermino.report.templates import html_templates

_CARD = "README.md"


def write_model_cards(cards: Sequence[ModelCard], folder: str | Path, title: str) -> list[Path]:
    """Write ``<encoder>/README.md`` for each card, and ``index.html`` with all of them.

    Parameters
    ----------
    cards:
        What to write.
    folder:
        Made when absent.
    title:
        Of the page.

    Returns
    -------
    list of Path
        The page, then the cards.
    """
    folder = writable_folder(folder)
    templates = html_templates()
    # Markdown, which autoescaping for HTML would spoil.
    plain = templates.overlay(autoescape=False)
    texts = {
        "version": __version__,
        "metric_title": metric_title,
        "intended_use": INTENDED_USE,
        "not_for": NOT_FOR,
        "limits": LIMITS,
    }
    written = [folder / "index.html"]
    for card in cards:
        path = writable_folder(folder / file_name(card.encoder.name)) / _CARD
        body = plain.get_template("card.html").render(card=card, encoder=card.encoder, **texts)
        write_text(path, card.front_matter() + "\n" + body)
        written.append(path)
    text = templates.get_template("cards.html").render(cards=cards, title=title, **texts)
    write_text(written[0], text)
    return written
