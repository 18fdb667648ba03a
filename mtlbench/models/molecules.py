"""A small network for molecules."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

ELEMENTS = 10
"""Atomic numbers that an atom can have, from hydrogen to fluorine, and 0 for none."""

FEATURES = 128
"""Of a molecule."""

USUAL_ATOMS = 18.0
"""Of a molecule of QM9; sums over atoms are in units of so many."""


class MoleculeNet(nn.Module):
    """Message passing among all atoms of a molecule, and a linear head for each task.

    It sees elements and distances, so that neither the order of the atoms nor where the molecule
    lies and how it is turned matters.

    Args:
        tasks: their names; each gets one output [B].
        width: features of an atom.
        layers: rounds of messages.
    """

    def __init__(self, tasks: Sequence[str], *, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        self.trunk = _Trunk(width, layers)
        self.heads = nn.ModuleDict({task: nn.Linear(FEATURES, 1) for task in tasks})

    def forward(self, molecules: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Molecules to outputs [B].

        Args:
            molecules: `elements`, atomic numbers as whole numbers [B, A], 0 where there is no atom;
                `places` [B, A, 3] (Å).
        """
        features = self.trunk(molecules)
        return {task: head(features).squeeze(1) for task, head in self.heads.items()}


class _Trunk(nn.Module):
    """Molecules of at least one atom to features [B, 128]."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(ELEMENTS, width)
        self.distances = _DistanceBasis()
        self.layers = nn.ModuleList(_Messages(width, self.distances.count) for _ in range(layers))
        self.pool = _Pool(width)

    def forward(self, molecules: Mapping[str, Tensor]) -> Tensor:
        elements, places = molecules["elements"], molecules["places"]
        there = elements > 0
        if elements.device.type == "cpu":
            # Without the places that no molecule of the batch needs, 9 % faster. On a GPU one would
            # have to wait until their number is known.
            longest = int(there.any(0).nonzero()[-1]) + 1
            elements, places, there = elements[:, :longest], places[:, :longest], there[:, :longest]
        basis = self.distances(places, there)
        atoms = self.embedding(elements)
        for layer in self.layers:
            atoms = layer(atoms, basis)
        features: Tensor = self.pool(atoms, there)
        return features


class _DistanceBasis(nn.Module):
    """R smooth bumps over exp(−d / `reach`), d the distance of two atoms: near ones, whose bonds
    differ by a tenth of an Å, are told apart more finely than those far away.

    Args:
        count: R, the number of bumps, whose centres are evenly spread from 0 to `top`.
        reach: in Å.
        top: exp(−d / reach) of the shortest bonds.
    """

    def __init__(self, count: int = 16, reach: float = 1.5, top: float = 0.55) -> None:
        super().__init__()
        self.count, self.reach = count, reach
        self.step = top / (count - 1)

    def forward(self, places: Tensor, there: Tensor) -> Tensor:
        """Places [B, A, 3] and which are atoms [B, A] to values [B, A · R, A]; 0 for pairs in which
        one is none, and for an atom with itself."""
        batch, atoms = there.shape
        distance = (places[:, :, None] - places[:, None]).norm(dim=-1)
        alone = torch.eye(atoms, dtype=torch.bool, device=there.device)
        pair = there[:, :, None] & there[:, None] & ~alone
        # Two steps from its centre a bump is 0, so −2 is out of the reach of them all.
        position = ((-distance / self.reach).exp() / self.step).where(pair, -2)
        centres = torch.arange(self.count, device=places.device, dtype=places.dtype)
        offset = (position[:, :, None] - centres[:, None]) / 2
        bumps = (1 - offset.square()).clamp(min=0).square()
        return bumps.view(batch, atoms * self.count, atoms)


class _Messages(nn.Module):
    """One round of messages: h_i ← h_i + f(h_i, Σ_j Σ_r φ_r(d_ij) W_r h_j).

    The matrix that takes an atom's features to another one is a function of their distance, as in
    Gilmer et al. 2017; here it is linear in the basis φ, so that no matrix is made for any pair.

    Args:
        width: features of an atom.
        count: R, the number of bumps of the basis.
        sent: features that an atom sends.
    """

    def __init__(self, width: int, count: int, sent: int = 16) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.send = nn.Linear(width, sent, bias=False)
        self.receive = nn.Linear(count * sent, width, bias=False)
        self.keep = nn.Linear(width, width)
        self.change = nn.Linear(width, width)

    def forward(self, atoms: Tensor, basis: Tensor) -> Tensor:
        """Atoms [B, A, width] and basis [B, A · R, A] to atoms."""
        normed = self.norm(atoms)
        received = torch.bmm(basis, self.send(normed)).view(*atoms.shape[:2], -1)
        changed: Tensor = self.change(functional.silu(self.receive(received) + self.keep(normed)))
        return atoms + changed


class _Pool(nn.Module):
    """Atoms to a molecule: their sum, for what grows with it, and a mean whose weights are learned,
    for what a few atoms decide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Linear(width, FEATURES)
        self.score = nn.Linear(width, FEATURES)
        self.join = nn.Linear(2 * FEATURES, FEATURES)

    def forward(self, atoms: Tensor, there: Tensor) -> Tensor:
        """Atoms [B, A, width], and which are there [B, A], to features [B, 128]."""
        mask = there[:, :, None]
        value = functional.silu(self.value(atoms)).where(mask, 0)
        weight = self.score(atoms).masked_fill(~mask, -torch.inf).softmax(1)
        parts = (value.sum(1) / USUAL_ATOMS, (weight * value).sum(1))
        return functional.silu(self.join(torch.cat(parts, 1)))
