"""Draws flat bones and bars: what arches, ribs and pelvis are made of."""

from __future__ import annotations

import cv2
import numpy as np

from spinezoo_phantom.projection import Camera, Window, smooth_curve
from spinezoo_phantom.solids import along_ray, paste, pillow_paths, project, tube_paths


class Painter:
    """Adds pillows and tubes to one pair of layers."""

    def __init__(self, camera: Camera, core: np.ndarray, shell: np.ndarray, density: float) -> None:
        self.camera, self.core, self.shell, self.density = camera, core, shell, density
        self.film = Window(0, 0, camera.width_px, camera.height_px)

    def pillow(
        self,
        outline_px: np.ndarray,
        thickness_cm: float,
        round_mm: float,
        shell_mm: float,
        density: float = 1.0,
    ) -> None:
        """Adds a flat bone; sizes in mm of the sagittal mid-plane.

        Args:
            outline_px: (N, 2) outline on the film.
            thickness_cm: Path length in its middle.
            round_mm: Width of its rounded edge.
            shell_mm: Thickness of its cortex.
            density: Of its cancellous bone, relative to the painter's.
        """
        if Window.around(outline_px, 2).cut(self.camera.height_px, self.camera.width_px).is_empty:
            return
        px = self.camera.px_per_mm
        drawn = pillow_paths(outline_px, thickness_cm, round_mm * px, shell_mm * px, shell_mm / 10)
        if drawn is not None:
            window, shell, core = drawn
            paste(self.shell, shell, window)
            paste(self.core, core * np.float32(self.density * density), window)

    def plate(
        self,
        outline_mm: np.ndarray,
        thickness_cm: float,
        round_mm: float,
        shell_mm: float,
        density: float = 1.0,
        rounds: int = 2,
    ) -> None:
        """Adds a flat bone by its (N, 3) outline in the world, corners cut `rounds` times."""
        if self.camera.is_frontal:
            self._edge_on(outline_mm, thickness_cm, round_mm, shell_mm, density)
            return
        outline_px = smooth_curve(project(self.camera, outline_mm), rounds=rounds)
        self.pillow(outline_px, thickness_cm, round_mm, shell_mm, density)

    def _edge_on(
        self,
        outline_mm: np.ndarray,
        thickness_cm: float,
        round_mm: float,
        shell_mm: float,
        density: float,
    ) -> None:
        """Adds a flat bone seen from the front: the hull of both its faces, its volume kept."""
        aside = np.array([0.0, 0.0, 5 * thickness_cm])
        faces_px = project(self.camera, np.vstack([outline_mm - aside, outline_mm + aside]))
        hull = cv2.convexHull(faces_px.astype(np.float32))[:, 0].astype(np.float64)
        seen_mm2 = cv2.contourArea(hull.astype(np.float32)) / self.camera.px_per_mm**2
        face_mm2 = cv2.contourArea(outline_mm[:, :2].astype(np.float32))
        if seen_mm2 > 1:
            depth_cm = thickness_cm * face_mm2 / seen_mm2
            self.pillow(smooth_curve(hull, rounds=1), depth_cm, round_mm, shell_mm, density)

    def tube(
        self,
        course_mm: np.ndarray,
        height_mm: np.ndarray,
        depth_mm: float,
        shell_share: float,
        density: float = 1.0,
    ) -> None:
        """Adds a bar along a (N, 3) course, `height_mm` high on the film, `depth_mm` deep."""
        course_px = project(self.camera, course_mm)
        drawn = tube_paths(
            course_px,
            height_mm / 2 * self.camera.px_per_mm,
            np.full(len(course_mm), depth_mm / 20),
            along_ray(self.camera.posed(course_mm)),
            shell_share,
            self.film,
        )
        if drawn is not None:
            window, shell, core = drawn
            paste(self.shell, shell, window)
            paste(self.core, core * np.float32(self.density * density), window)


def smooth_course(points_mm: np.ndarray, rounds: int = 3) -> np.ndarray:
    """Rounds an open (N, 3) course by corner cutting."""
    course = points_mm
    for _ in range(rounds):
        cut = np.empty((2 * (len(course) - 1), 3))
        cut[0::2] = 0.75 * course[:-1] + 0.25 * course[1:]
        cut[1::2] = 0.25 * course[:-1] + 0.75 * course[1:]
        course = np.vstack([course[:1], cut, course[-1:]])
    return course
