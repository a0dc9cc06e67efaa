"""What tokens are asked for: vectors behind the final norm, and the directions of the stream that they are seen in.

cos(f, t) with f = P·LN(x) + b is, for one token with mean m and deviation σ, linear in x:
cos = ⟨x − m, γ ∘ Pᵀt⟩ / (σ|f|) + ⟨P·β + b, t⟩ / |f|, so it is the sum of the same over the parts of x.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from timm.layers import RmsNorm
from torch import Tensor, nn

from clearclip.errors import UserError
from clearclip.models.backbone import Backbone


@dataclass(frozen=True)
class Readout:
    """Vectors that the features of a model are compared with.

    Args:
        model: whose features; behind its projection to the text space if it has one, otherwise behind its final norm.
        vectors: of any length, (T, E).

    Raises:
        UserError: vectors of another width, or a final norm that is no LayerNorm or RMSNorm.
    """

    model: Backbone
    vectors: Tensor

    def __post_init__(self) -> None:
        wanted = len(self._matrix)
        if self.vectors.ndim != 2 or self.vectors.shape[1] != wanted:
            raise UserError(
                f"vectors of shape {tuple(self.vectors.shape)}: {self.model.name} has features of {wanted} numbers, so give "
                f"(directions, {wanted})."
            )
        self._norm  # noqa: B018  a norm that cannot be taken apart is refused here

    @property
    def dtype(self) -> torch.dtype:
        """float64 for models in float64, otherwise float32."""
        return torch.float64 if self.model.dtype == torch.float64 else torch.float32

    @cached_property
    def unit(self) -> Tensor:
        """The vectors at length 1, (T, E)."""
        return F.normalize(self.vectors.to(self.model.device, self.dtype), dim=1)

    @cached_property
    def stream(self) -> Tensor:
        """The directions of the stream that they are seen in, (D, T)."""
        direction = self._matrix.T @ self.unit.T
        if getattr(self._norm, "weight", None) is not None:
            direction = self._norm.weight.to(self.dtype)[:, None] * direction
        return direction - direction.mean(0) if isinstance(self._norm, nn.LayerNorm) else direction

    @cached_property
    def constant(self) -> Tensor:
        """What the biases of norm and projection add, whatever the token, (T,)."""
        constant = self._linearly(torch.zeros(1, self.model.width))[0] @ self.unit.T
        bias = getattr(self._norm, "bias", None)
        return constant if bias is None else constant + bias.to(self.dtype) @ self._matrix.T @ self.unit.T

    def scale(self, x: Tensor) -> Tensor:
        """1 / σ of each token, (B, L, D) → (B, L, 1)."""
        x = x.to(self.dtype)
        if isinstance(self._norm, nn.LayerNorm):
            return (x.var(-1, unbiased=False, keepdim=True) + self._norm.eps).rsqrt()
        eps = torch.finfo(x.dtype).eps if self._norm.eps is None else self._norm.eps
        return (x.square().mean(-1, keepdim=True) + eps).rsqrt()

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens behind norm and projection, (B, L, D) → (B, L, E), and what of them is not linear, which may be zeros."""
        normed = self.model.final_norm(x)
        if not self.model.has_projection:
            features = normed.to(self.dtype)
            return features, torch.zeros_like(features)
        features = self.model.project(normed).to(self.dtype)
        return features, features - self.model.project_linearly(normed).to(self.dtype)

    @cached_property
    def is_linear(self) -> bool:
        """Whether the projection is linear, as all are but that of attention pooling with an FFN."""
        x = torch.linspace(-1, 1, self.model.width, device=self.model.device, dtype=self.model.dtype)[None, None]
        return not self.model.has_projection or torch.equal(self.model.project(x), self.model.project_linearly(x))

    @cached_property
    def _norm(self) -> nn.LayerNorm | nn.RMSNorm:
        acting = [norm for norm in self.model.final_norms if not isinstance(norm, nn.Identity)]
        if len(acting) == 1 and isinstance(acting[0], (nn.LayerNorm, nn.RMSNorm, RmsNorm)):
            return acting[0]
        names = ", ".join(type(norm).__name__ for norm in acting) or "none"
        raise UserError(
            f"{self.model.name} ends with {names}: scores can be taken apart through one LayerNorm or RMSNorm only."
        )

    @cached_property
    def _matrix(self) -> Tensor:
        """The projection as a matrix, (E, D)."""
        rows = torch.eye(self.model.width)
        return (self._linearly(rows) - self._linearly(torch.zeros(1, self.model.width))).T

    def _linearly(self, rows: Tensor) -> Tensor:
        """Normed tokens (N, D) behind the linear projection, (N, E); themselves where there is none."""
        if not self.model.has_projection:
            return rows.to(self.model.device, self.dtype)
        with torch.inference_mode():
            return self.model.project_linearly(rows.to(self.model.device, self.model.dtype)[None])[0].to(self.dtype)
