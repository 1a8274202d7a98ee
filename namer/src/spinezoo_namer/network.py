"""The reader's network: small, one pass for all spots of a film."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from spinezoo_spine.column.reader.looking import (
    FACTS,
    HALF_SIDES,
    PAIR_FACTS,
    RIB_SPOTS,
    RIBS_PX,
)
from spinezoo_spine.column.reader.readings import FROM_ABOVE, FROM_BELOW, LONGEST_STEP
from torch import Tensor, nn

from spinezoo_namer.examples import FilmKind

VIEW_PARTS = ("whole.", "kind.")
"""Layers that say what a film shows; names do not depend on them."""

RIB_PARTS = ("ribs.",)
"""Layers that look for ribs; what they say is added to the evidence from above."""

RIB_PLANES = 20
"""Planes of their first layers."""

THORACIC_FROM = 4
"""First class from above of a thoracic vertebra, T12."""

RIBS_BELIEVED = 0.4
"""Share of the evidence of ribs that counts: spots beside each other see the same ribs. With it
most is gained on phantoms of four and six lumbar vertebrae without losing names of five."""

ABSENT_MOST = 0.8
"""Nats by which a rib that is not seen speaks for a lumbar vertebra, at most."""


def _layer(inputs: int, outputs: int, stride: int, side: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class ReaderNetwork(nn.Module):
    """Looks at spots one by one, at pairs of them by distance, and at the film as a whole."""

    def __init__(self, width: int = 24, dropout: float = 0.05) -> None:
        """Makes the layers.

        Args:
            width: Planes of the first layers.
            dropout: Share of features left out in training.
        """
        super().__init__()
        w = width
        self.look = nn.Sequential(
            _layer(len(HALF_SIDES), w, 2),
            _layer(w, w, 1),
            _layer(w, 2 * w, 2),
            _layer(2 * w, 2 * w, 1),
            _layer(2 * w, 4 * w, 2),
            _layer(4 * w, 4 * w, 1),
            _layer(4 * w, 5 * w, 2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(5 * w * 9, 96),
            nn.ReLU(),
        )
        self.spot = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(96 + FACTS, 96),
            nn.ReLU(),
            nn.Linear(96, FROM_BELOW + FROM_ABOVE),
        )
        self.step = nn.Sequential(
            nn.Linear(PAIR_FACTS, 24),
            nn.ReLU(),
            nn.Linear(24, 24),
            nn.ReLU(),
            nn.Linear(24, LONGEST_STEP),
        )
        self.counts = nn.Parameter(torch.log(torch.tensor([0.15, 0.7, 0.15])))
        self.whole = nn.Sequential(
            _layer(1, 16, 2),
            _layer(16, 24, 2),
            _layer(24, 48, 1),
            _layer(48, 64, 2),
            _layer(64, 64, 2),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.kind = nn.Sequential(nn.Linear(576 + 96, 64), nn.ReLU(), nn.Linear(64, len(FilmKind)))
        r = RIB_PLANES
        self.ribs = nn.Sequential(
            _layer(1, r, 2, 5),
            _layer(r, 2 * r, 2),
            _layer(2 * r, 2 * r, 1),
            _layer(2 * r, 4 * r, 2),
            _layer(4 * r, 4 * r, 1),
            _layer(4 * r, 5 * r, 2),
            nn.Flatten(),
            nn.Dropout(4 * dropout),
            nn.Linear(5 * r * (RIBS_PX // 16) ** 2, 96),
            nn.ReLU(),
            nn.Dropout(4 * dropout),
            nn.Linear(96, FROM_ABOVE),
        )
        for parameter in self.ribs[-1].parameters():  # without training they say nothing
            nn.init.zeros_(parameter)
        self._still: tuple[nn.Module, ...] = ()

    def learn_only(self, parts: Sequence[str]) -> None:
        """Only some layers learn from now on.

        Args:
            parts: :data:`VIEW_PARTS`, so that names stay the same, or :data:`RIB_PARTS`.
        """
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.startswith(tuple(parts)))
        self._still = tuple(
            layers for name, layers in self.named_children() if f"{name}." not in parts
        )

    @torch.no_grad()
    def presume(self, count_shares: Sequence[float], turned_favour: float) -> None:
        """Takes what is usual outside a training for granted.

        Args:
            count_shares: Of patients with each lumbar count.
            turned_favour: Nats added to what says that a film is turned by 90 degrees.
        """
        self.counts.copy_(torch.log(torch.tensor(count_shares)))
        self.kind[-1].get_parameter("bias")[FilmKind.TURNED] += turned_favour

    def train(self, mode: bool = True) -> ReaderNetwork:
        """As torch's, but layers that do not learn go on normalising by what they have learnt."""
        super().train(mode)
        for part in self._still:
            part.eval()
        return self

    def forward(
        self,
        views: Tensor,
        facts: Tensor,
        pairs: Tensor,
        outlined: Tensor,
        film: Tensor,
        ribs: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """One film.

        Args:
            views: (N, 3, 48, 48).
            facts: (N, facts).
            pairs: (N, N, pair facts).
            outlined: (N,) 1 for outlined spots.
            film: (1, 1, 96, 96).
            ribs: (M, 1, 96, 96) of ``RIB_SPOTS``.

        Returns:
            (N, 8) from below, (N, 9) from above, (N, N, 4) steps, (3,) log probability of each
            lumbar count, (4,) logits of what the film shows.
        """
        seen = self.look(views)
        said = self.spot(torch.cat([seen, facts], dim=1))
        weight = outlined / outlined.sum().clamp(min=1.0)
        mean = (seen * weight[:, None]).sum(dim=0, keepdim=True)
        kind = self.kind(torch.cat([self.whole(film), mean], dim=1))
        return (
            said[:, :FROM_BELOW],
            _with_ribs(said[:, FROM_BELOW:], self.ribs(ribs)),
            self.step(pairs),
            torch.log_softmax(self.counts, dim=0),
            kind[0],
        )

    def of_batch(
        self,
        views: Tensor,
        facts: Tensor,
        pairs: Tensor,
        outlined: Tensor,
        film: Tensor,
        ribs: Tensor,
        seeing: AbstractContextManager[Any] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Several films with spots padded to one number, as :meth:`forward` says each.

        Args:
            views: (M, 3, 48, 48) of the films' real spots, film by film.
            facts: (B, N, facts).
            pairs: (B, N, N, pair facts).
            outlined: (B, N) 1 outlined, 0 beyond the ends, -1 padding.
            film: (B, 1, 96, 96).
            ribs: (R, 1, 96, 96) of the films' ``RIB_SPOTS``, film by film.
            seeing: Entered while views are looked at: their precision.

        Returns:
            As :meth:`forward`, each with a first axis of B; and (B, N, 9) what ribs alone say from
            above, 0 where they are not looked for.
        """
        real = outlined >= 0
        seen = views.new_zeros(*outlined.shape, 96)
        with seeing or nullcontext():
            looked = self.look(views)
            of_ribs = self.ribs(ribs)
        seen[real] = looked.float()
        from_ribs = views.new_zeros(*outlined.shape, FROM_ABOVE)
        from_ribs[rib_rows(outlined)] = of_ribs.float()
        said = self.spot(torch.cat([seen, facts], dim=2))
        weight = (outlined > 0).float()
        weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1.0)
        mean = (seen * weight[:, :, None]).sum(dim=1)
        kind = self.kind(torch.cat([self.whole(film), mean], dim=1))
        return (
            said[..., :FROM_BELOW],
            said[..., FROM_BELOW:] + from_ribs,
            self.step(pairs),
            torch.log_softmax(self.counts, dim=0),
            kind,
            from_ribs,
        )


def doubted(of_ribs: Tensor) -> Tensor:
    """What ribs say, against a thoracic vertebra :data:`ABSENT_MOST` at most.

    A rib that is seen tells a thoracic vertebra; one that is not seen may be hidden, or missing.

    Args:
        of_ribs: (..., 9) evidence from above.
    """
    lumbar, thoracic = of_ribs[..., :THORACIC_FROM], of_ribs[..., THORACIC_FROM:]
    against = torch.logsumexp(lumbar, dim=-1, keepdim=True)
    against = against - torch.logsumexp(thoracic, dim=-1, keepdim=True)
    return torch.cat([lumbar, thoracic + torch.relu(against - ABSENT_MOST)], dim=-1)


def rib_rows(outlined: Tensor) -> Tensor:
    """(B, N) at which spots of a batch ribs are looked for.

    Args:
        outlined: (B, N) 1 outlined, 0 beyond the ends, -1 padding.
    """
    rows = torch.zeros_like(outlined, dtype=torch.bool)
    rows[:, RIB_SPOTS] = outlined[:, RIB_SPOTS] >= 0
    return rows


def _with_ribs(above: Tensor, of_ribs: Tensor) -> Tensor:
    """(N, 9) evidence from above, with the (M, 9) of ribs added where they are looked for."""
    there = above[RIB_SPOTS]
    added = there + of_ribs[: there.shape[0]]
    return torch.cat([above[: RIB_SPOTS.start], added, above[RIB_SPOTS.stop :]])


class BothWays(nn.Module):
    """A network that looks at a column twice, the second time mirrored; the mean of its evidence.

    Patients face left or right by chance: a name must not depend on it. What the network is told
    of outlines is the same either way.
    """

    def __init__(self, network: ReaderNetwork) -> None:
        """Takes a trained network."""
        super().__init__()
        self.network = network

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """One film, as :class:`ReaderNetwork` is asked and answers; both looks in one pass."""
        own = self.network
        views, facts, pairs, outlined, film, ribs = given
        seen = own.look(torch.cat([views, views.flip(-1)]))
        said = own.spot(torch.cat([seen, facts.repeat(2, 1)], dim=1))
        said = said.view(2, -1, FROM_BELOW + FROM_ABOVE).mean(dim=0)
        weight = outlined / outlined.sum().clamp(min=1.0)
        mean = (seen.view(2, -1, seen.shape[1]) * weight[:, None]).sum(dim=1)
        whole = own.whole(torch.cat([film, film.flip(-1)]))
        of_ribs = own.ribs(torch.cat([ribs, ribs.flip(-1)])).view(2, -1, FROM_ABOVE).mean(dim=0)
        of_ribs = doubted(RIBS_BELIEVED * of_ribs)
        return (
            said[:, :FROM_BELOW],
            _with_ribs(said[:, FROM_BELOW:], of_ribs),
            own.step(pairs),
            torch.log_softmax(own.counts, dim=0),
            own.kind(torch.cat([whole, mean], dim=1)).mean(dim=0),
        )
