"""What settings and loss terms mean, in words."""

from __future__ import annotations

from typing import Any

from soloatlas.reporting.contents import Contents

_DOUBLED = 64  # filters of the deepest level; half of it is "undoubled"
ONE_SIDED = 0.9  # share of the logged steps in which one side of an adversarial game leads

STAGES = {
    "register": "Registration",
    "registration": "Registration",
    "reconstruct": "Teacher alone",
    "distil": "Distillation",
    "warm-up": "Segmenter, first part",
    "correspond": "Reversible correspondence",
}

_TOTALS = {"register": "Eq. 5, the weighted sum", "registration": "Eq. 5, the weighted sum",
           "distil": "Eq. 12, the weighted sum", "correspond": "Eq. 11, the weighted sum"}  # fmt: skip

SETTING_GROUPS = {
    "prepare": "Preparation",
    "registration": "Registration",
    "synthesis": "Synthesis",
    "augment": "Augmentation",
    "student": "Student",
    "teacher": "Teacher",
    "hint": "Hint",
    "adversary": "Discriminator",
    "cycle": "Way back",
    "loop": "Training loop",
}


def stage_title(stage: str) -> str:
    """Heading of a stage's loss curves."""
    return STAGES.get(stage, stage.capitalize())


def equation(contents: Contents, stage: str, term: str) -> str:
    """Which equation of the method's paper a loss term is, and what it measures, in a few words."""
    setting = contents.setting
    if stage == "correspond":
        return _lt_net(setting, term)
    if term == "similarity":
        if setting("registration.similarity") == "mi":
            return "Eq. 7, minus the mutual information"
        if setting("registration.similarity") == "mse":
            return "mean squared difference"
        return f"Eq. 6, minus local correlation², n = {setting('registration.window', 9)}"
    if term == "smoothness":
        bending = setting("registration.smoothness") == "bending"
        return "Eq. 9, bending energy" if bending else "Eq. 8, diffusion"
    if term == "hint":
        return f"Eqs. 3–4, {'L2' if setting('hint.distance') == 'l2' else '1 − cosine'} of features"
    if term == "total":
        return _TOTALS.get(stage, "the weighted sum")
    fixed = {
        "contrast": "Eq. 2, contrastive",
        "cross entropy": "Eq. 11, cross entropy, nats",
        "reconstruction": "Eq. 10, mean squared error",
        "dice": "1 − soft Dice" + ("" if setting("form") == "original" else " (ours, not in the paper)"),
        "divergence": "of the drawn field from N(0, 1), nats",
        "log labels": "mean squared difference of logits and log labels",
    }
    return fixed.get(term, "")


def _lt_net(setting: Any, term: str) -> str:
    """The terms of LT-Net's Eq. 11."""
    similarity = "mutual information" if setting("registration.similarity") == "mi" else "local correlation²"
    bending = setting("registration.smoothness") == "bending"
    printed = setting("adversary.form") == "printed"
    return {
        "similarity": f"L_sim, minus {similarity}, forward path",
        "smoothness": f"Eqs. 3, 6, {'bending energy' if bending else 'diffusion'} of all fields",
        "adversarial": f"Eq. 4, the generator's side, {'as printed' if printed else 'least squares'}",
        "discriminator": f"Eq. 4, the discriminator's side, {'as printed' if printed else 'least squares'}",
        "D(real)": "mean verdict on real scans; 1 is “real”",
        "D(warped)": "mean verdict on warped atlases; 0 is “warped”",
        "D right": "share of patches judged rightly",
        "image cycle": "Eq. 7, mean absolute difference",
        "transformation": "Eq. 8, Charbonnier of the way there and back",
        "anatomy cycle": "Eq. 9, 1 − Dice of labels there and back",
        "anatomy difference": "Eq. 10, Charbonnier of the labels' changes",
        "total": _TOTALS["correspond"],
    }.get(term, "")


def cautions(contents: Contents) -> list[str]:
    """What a reader must know before believing the numbers."""
    said = []
    if not contents.finished:
        said.append("Training has not finished: this page shows what is there so far.")
    if contents.record.get("one_shot") is False:
        said.append("Trained with more labels than those of one atlas: this run is not one-shot.")
    if contents.setting("teacher.enabled") is False:
        said.append(
            "Trained without the teacher (settings.teacher.enabled is false): no reconstruction and no hint, "
            "so the student learnt from the labelled pairs alone."
        )
    elif contents.setting("hint.weight") == 0:
        said.append("The hint has weight 0: the teacher was trained, but did not guide the student.")
    said += _one_sided(contents.game())
    if "simulated" in str(contents.record.get("study", "")).lower():
        said.append(
            "The cohort is simulated: the scores show that the program works, not how well it does on patients."
        )
    return said


def game_in_words(game: dict[str, float]) -> str:
    """What is to be said of the game between discriminator and generator, from `Contents.game`."""
    right, certain, confused = (f"{100 * game[key]:.0f} %" for key in ("mean_right", "certain", "confused"))
    return (
        f"The discriminator judged {right} of the patches rightly; it was certain (over 95 %) in {certain} of the "
        f"logged steps and confused (below 55 %) in {confused}. The game is stable if neither lasts: from a certain "
        "one the generator learns nothing, from a confused one neither does."
    )


def _one_sided(game: dict[str, float]) -> list[str]:
    said = {"certain": "certain of its verdicts", "confused": "no better than chance"}
    return [
        f"The adversarial game was one-sided: the discriminator was {words} in {100 * game[state]:.0f} % of the logged "
        "steps. Train longer or on more scans, change adversary.learning_rate, or hide contrast and grain from it "
        "(adversary.appearance=histogram, adversary.noise=0.1)."
        for state, words in said.items()
        if game and game[state] > ONE_SIDED
    ]


def preset_in_words(contents: Contents) -> str:
    """What the preset shrinks or adds, compared with the paper's recipe."""
    setting = contents.setting
    outside = "" if setting("form") == "original" else " (not in the paper)"
    parts = [_form(setting), *_registration(setting), *_steps(setting, "student", 200)]
    if setting("synthesis.pairs") == "real":
        parts.append("the student sees real scans with the warped labels (RI+SL)")
    if setting("synthesis.appearance") == "histogram":
        parts.append("each synthetic scan takes the intensity distribution of the real one it imitates")
    if setting("augment.enabled"):
        parts.append(f"the training pairs are changed at random in space and intensity{outside}")
    if setting("teacher.enabled") and setting("teacher.every", 1) > 1:
        parts.append(f"the teacher is visited once in {setting('teacher.every')} steps (the paper: at each)")
    if setting("teacher.enabled") and 0 < setting("hint.weight", 1.0) < 1:
        parts.append(f"the hint weighs {setting('hint.weight'):g} (the paper: 1, in CT 10)")
    if setting("student.balance"):
        parts.append(f"the cross entropy evens out the sizes of classes{outside}")
    if setting("student.dice") and setting("student.cross_entropy", 1.0):
        parts.append(f"soft Dice is added to the cross entropy{outside}")
    parts += _game_of_lt_net(setting)
    said = "; ".join(part for part in parts if part)
    preset = contents.record.get("preset", "")
    return f"Preset {preset}: {said}." if said else f"Preset {preset}."


def _game_of_lt_net(setting: Any) -> list[str]:
    """Where LT-Net's terms weigh or learn otherwise than printed."""
    if setting("cycle.pull") is None:
        return []
    parts = []
    if setting("adversary.enabled") and setting("adversary.weight") != 1:
        parts.append(f"the adversarial term weighs {setting('adversary.weight'):g} (the paper: 1)")
    if setting("adversary.enabled"):
        parts.append(f"discriminator filters {', '.join(map(str, setting('adversary.channels')))}")
    if setting("cycle.enabled") and setting("cycle.pull") != 1:
        parts.append(
            f"{setting('cycle.pull'):g} of the cycle's gradient reaches the forward generator (the paper says nothing)"
        )
    first, second = setting("betas")
    return [*parts, f"Adam's betas {first:g} and {second:g} (not in the paper)"]


def _form(setting: Any) -> str:
    if setting("form") != "original":
        return ""
    return "networks, losses and sampling are those of the method's own authors (form=original), not those of Table I"


def _registration(setting: Any) -> list[str]:
    """Where the fields come from: the network's width and training, or SyN."""
    if setting("registration.network") == "syn":
        return ["the fields are SyN's: no registration network is trained"]
    parts = [_filters(setting), *_steps(setting, "registration", 500)]
    if setting("registration.half_resolution"):
        parts.append("the registration network decodes its field at half resolution")
    if setting("registration.integration_steps"):
        parts.append("the registration network gives a velocity, which is integrated to a diffeomorphic field")
    return parts


def _filters(setting: Any) -> str:
    channels = setting("registration.channels")
    if not channels:
        return ""
    shown = ", ".join(map(str, channels))
    if channels[-1] < _DOUBLED and _as_in_paper(setting):
        return f"undoubled registration filters ({shown}), where the paper doubles them (32, 64, 64, 64)"
    return f"registration filters {shown}"


def _as_in_paper(setting: Any) -> bool:
    """Whether the network is one whose filters and schedule OS-MedSeg's paper gives."""
    return setting("registration.network", "siamese") in ("siamese", "syn") and setting("form") != "original"


def _steps(setting: Any, part: str, paper: int) -> list[str]:
    """How long a part trains, beside the passes over the pool that it would take by default."""
    steps, epochs = setting(f"{part}.steps"), setting(f"{part}.epochs")
    if steps:
        beside = f" (the paper: {paper} passes over the pool)" if _as_in_paper(setting) else ""
        return [f"{steps} optimiser steps for the {part}{beside}"]
    return [f"{epochs} passes over the pool for the {part}"] if epochs else []
