"""Every knob of the phantom in one frozen record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

GENERATOR = 4
"""Version of the generator, in every record; raised when the same seed gives other films."""

FIELDS = ("lumbar", "whole_spine")
VIEWS = ("lateral", "anteroposterior")
TURNS_DEG = (0, 90, 180, 270)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomSettings:
    """What kind of films the generator draws.

    Attributes:
        height_px: Rows of the film, 96 or more.
        width_px: Columns of the film, 96 or more.
        bits_stored: Bits of a stored grey level, 8 to 16. Levels run from 0 to 2**bits - 1.
        implant_share: Share of films with hardware, 0 to 1. The study had over 70 %; 0.80 keeps
            even a set of 100 above that.
        mirror_share: Share of films facing left, 0 to 1; the rest face right.
        field_height_mm: Typical height of the film at the detector plane, 200 to 600 mm.
        field_spread: Relative spread of the field height, 0 to 0.5 (0.25 is plus or minus 25 %).
        tight_share: Share of films cropped tightly around the lumbar spine, 0 to 1.
        wide_share: Share of films that show much more than the lumbar spine, 0 to 1.
        low_contrast_share: Share of films in which bone is hardly visible, 0 to 1.
        noise_scale: Factor on the quantum noise, 0 (none) to 5.
        clutter: Factor on how often gas, folds, calcification and the like occur, 0 to 1.
        display_variation: Factor on the looks a viewing station adds (local contrast, gamma, edge
            enhancement, grid lines, text, collimation), 0 (a plain film) to 1.
        transitional_share: Share of patients with four or six lumbar vertebrae (half of them) or
            with a vertebra between lumbar and sacral (Castellvi), 0 to 1.
        faint_ribs_share: Share of patients whose ribs are fainter than usual, by a factor of their
            own, 0 to 1; all else is the same.
        view: "lateral" or "anteroposterior" (without hardware): what networks must not name.
        turn_deg: 0, 90, 180 or 270: how far the finished film is turned clockwise.
        field: "lumbar" (of many extents) or "whole_spine" (neck to hips).
    """

    height_px: int = 1024
    width_px: int = 768
    bits_stored: int = 12
    implant_share: float = 0.80
    mirror_share: float = 0.5
    field_height_mm: float = 375.0
    field_spread: float = 0.25
    tight_share: float = 0.15
    wide_share: float = 0.10
    low_contrast_share: float = 0.12
    noise_scale: float = 1.0
    clutter: float = 1.0
    display_variation: float = 1.0
    transitional_share: float = 0.20
    faint_ribs_share: float = 0.0
    field: str = "lumbar"
    view: str = "lateral"
    turn_deg: int = 0

    def __post_init__(self) -> None:
        """Refuses values outside their range.

        Raises:
            ValueError: A value is out of range; the message names it and the range.
        """
        ranges = {
            "height_px": (96, 8192),
            "width_px": (96, 8192),
            "bits_stored": (8, 16),
            "implant_share": (0, 1),
            "mirror_share": (0, 1),
            "field_height_mm": (200, 600),
            "field_spread": (0, 0.5),
            "tight_share": (0, 1),
            "wide_share": (0, 1),
            "low_contrast_share": (0, 1),
            "noise_scale": (0, 5),
            "clutter": (0, 1),
            "display_variation": (0, 1),
            "transitional_share": (0, 1),
            "faint_ribs_share": (0, 1),
        }
        choices: dict[str, tuple[object, ...]] = {
            "field": FIELDS,
            "view": VIEWS,
            "turn_deg": TURNS_DEG,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                known = ", ".join(map(str, allowed))
                message = f"{name} is {getattr(self, name)!r}; choose one of {known}"
                raise ValueError(message)
        for name, (lowest, highest) in ranges.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                message = f"{name} is {value}; choose a value from {lowest} to {highest}"
                raise ValueError(message)

    def as_dict(self) -> dict[str, Any]:
        """The settings as a JSON-ready dictionary.

        Without `faint_ribs_share` where it is 0: a film's UIDs are made of this, and films that it
        leaves as they are keep theirs.
        """
        return {k: v for k, v in asdict(self).items() if v or k != "faint_ribs_share"}


DEFAULT_SETTINGS = PhantomSettings()
"""Films as the study's: 1024 x 768, over 70 % with implants."""
