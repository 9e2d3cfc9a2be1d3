"""A sentence about each picture, from nothing but what was drawn."""

from __future__ import annotations

from dermino.data.generate.case import Case, Morphology

_ROMAN = ("I", "II", "III", "IV", "V", "VI")
_VIEWS = {
    "dermoscopic": ("Dermoscopic image", "Dermoscopy", "Polarised dermoscopic view"),
    "clinical": ("Clinical photograph", "Close-up photograph", "Clinical image"),
}
_STRUCTURES = (
    ("veil", 0.0, "a blue-white veil"),
    ("nests", 0.0, "blue-grey ovoid nests"),
    ("branching_vessels", 0.0, "arborizing vessels"),
    ("streaks", 0.0, "peripheral streaks"),
    ("globules", 0.0, "brown globules"),
    ("regression", 0.3, "white regression areas"),
    ("milia", 0.0, "milia-like cysts"),
    ("openings", 0.0, "comedo-like openings"),
    ("fissures", 0.0, "fissures and ridges"),
    ("scar", 0.0, "a central white scar-like patch"),
    ("lacunae", 0.0, "red lacunae"),
    ("ulcer", 0.0, "ulceration"),
    ("crust", 0.0, "yellow crust"),
    ("scale", 0.2, "white scale"),
    ("dotted_vessels", 0.0, "dotted vessels"),
    ("edema", 0.0, "a pale edematous centre"),
    ("ring", 0.3, "central clearing"),
)
_GRADES = ("mild", "moderate", "severe", "very severe")


def write_caption(case: Case, *, name_diagnosis: bool = True) -> str:
    """Describe a case in one English sentence.

    Parameters
    ----------
    case:
        What was drawn.
    name_diagnosis:
        Say what it is; without, only what is seen.
    """
    generator = case.visit_stream(1)
    view = str(generator.choice(_VIEWS[case.modality]))
    person = f"{_article(case.age)} {case.age}-year-old {_person(case)}"
    skin = f"skin type {_ROMAN[case.skin_type - 1]}"
    finding = _finding(case)
    name = case.diagnosis
    if case.acne_grade is not None:
        name = f"{_GRADES[case.acne_grade]} acne"
    what = name if name_diagnosis else "a skin condition"
    suffix = f", consistent with {name}" if name_diagnosis else ""
    orders = (
        f"{view} of {what} on the {case.site} of {person} with {skin}: {finding}.",
        f"{view} from the {case.site} of {person} ({skin}) showing {finding}{suffix}.",
        f"{finding[0].upper()}{finding[1:]} on the {case.site} of {person}, {skin}{suffix}.",
    )
    return orders[int(generator.integers(len(orders)))]


def _finding(case: Case) -> str:
    form = case.morphology
    if case.papules:
        several = "papules and pustules" if case.pustules else "papules"
        return f"{case.papules} inflammatory {several if case.papules > 1 else 'papule'}"
    adjectives = [_shape(form), _colour(form)]
    noun = "patches" if round(form.patches) else "lesion" if case.diameter < 15 else "patch"
    size = f"{case.diameter:.0f} mm"
    number = "several" if round(form.patches) > 1 else "two"
    described = ", ".join(word for word in adjectives if word)
    lead = (
        f"{number} {described} {noun} over {size}"
        if noun == "patches"
        else f"{_article(size)} {size} {described} {noun}"
    )
    seen = _structures(form)
    return f"{lead} with {_listed(seen)}" if seen else lead


def _shape(form: Morphology) -> str:
    if form.irregularity > 0.3 or form.asymmetry > 0.65:
        return "irregular"
    if form.softness > 0.2:
        return "ill-defined"
    return "well-defined" if form.softness < 0.07 else ""


def _colour(form: Morphology) -> str:
    if form.depigmentation:
        return "depigmented"
    if form.melanin > 0.3:
        shade = "dark brown" if form.melanin > 1.0 else "brown"
        return f"variegated {shade}" if form.variegation > 0.55 else shade
    if form.lacunae:
        return "red to purple"
    return "erythematous" if form.blood > 0.35 else "pink"


def _structures(form: Morphology) -> list[str]:
    seen = [words for name, least, words in _STRUCTURES if getattr(form, name) > least]
    if form.network:
        kind = "an atypical" if form.variegation > 0.5 else "a regular"
        seen.insert(0, f"{kind} pigment network")
    return seen[:4]


def _person(case: Case) -> str:
    if case.age < 18:
        return "girl" if case.sex == "female" else "boy"
    return "woman" if case.sex == "female" else "man"


def _article(number: int | str) -> str:
    text = str(number)
    vowel = text[0] == "8" or text.split(maxsplit=1)[0] in {"11", "18"}
    return "an" if vowel else "a"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
