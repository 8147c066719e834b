"""The network in the form that is traced: gene tables folded into one, projections reduced by exact algebra.

One module is the single source of every graph. Targets differ only in how attention and skip + norm are written:
`EagerOps` computes them in PyTorch, `OrtOps` emits ONNX Runtime's fused operators, `PortableOps` standard ones.

Exact algebra:

- Softmax over keys is unchanged when one vector is added to every key: the key bias is dropped.
- The value bias passes through attention unchanged: it becomes `b_v @ W_out` in the output bias.
- relu(y + b) = max(y, -b) + b: one operation instead of two, and `b @ W` in the bias of the next linear layer.
- The outputs of a layer norm, each divided by its weight, have the same sum for every token. The query bias is a
  multiple of that sum, so the query weight can hold it. The norm's bias is shifted to keep the sum away from zero; a
  shift of all keys changes nothing (see above), and what values and the residual get is taken from the output bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scgenept_export.checkpoint import check_finite
from scgenept_export.model import MAX_VALUE, ContinuousValueEncoder, EncoderLayer, ReferenceModel

LAYER_NORM_EPS = 1e-5
PORTABLE_OPSET = 23
"""The first standard opset with Attention."""

_SHIFT = 0.25
"""Shift of a norm's bias, in units of its weight: a smaller one needs larger weights, a larger one rounds coarser."""

_MOST_ADDED = 0.5
"""Largest share of what is added to a query weight, relative to the weight: rounding errors grow with it."""


class EagerOps:
    """The two operations that engines fuse differently, in PyTorch: checks the folded algebra before any trace."""

    def attention(self, q: Tensor, k: Tensor, v: Tensor, n_heads: int, scale: float | None = None) -> Tensor:
        """Multi-head attention without bias or mask over [batch, n, width] projections.

        Heads of queries and keys may be wider than those of values. `scale` multiplies the scores; None for one over
        the square root of the queries' head width.
        """
        q, k, v = (part.unflatten(-1, (n_heads, -1)).transpose(1, 2) for part in (q, k, v))
        return self._attend(q, k, v, scale).transpose(1, 2).flatten(-2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)

    def skip_norm(self, x: Tensor, skip: Tensor, bias: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Return norm(x + skip + bias)."""
        return norm(x + (skip + bias))


class PortableOps(EagerOps):
    """Standard operators only (opset 23), with 4-D queries, keys and values: what TensorRT's importer accepts."""

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        return _operator("Attention", (q, k, v), v, PORTABLE_OPSET, {} if scale is None else {"scale": scale})


class OrtOps(EagerOps):
    """com.microsoft operators: the forms that reach the flash kernels of the CPU and CUDA execution providers."""

    def attention(self, q: Tensor, k: Tensor, v: Tensor, n_heads: int, scale: float | None = None) -> Tensor:
        attributes = {"num_heads": n_heads} | ({} if scale is None else {"scale": scale})
        return _operator("com.microsoft::MultiHeadAttention", (q, k, v), v, 1, attributes)

    def skip_norm(self, x: Tensor, skip: Tensor, bias: Tensor, norm: nn.LayerNorm) -> Tensor:
        inputs = (x, skip, norm.weight, norm.bias, bias)
        return _operator("com.microsoft::SkipLayerNormalization", inputs, x, 1, {"epsilon": LAYER_NORM_EPS})


def _operator(name: str, inputs: Sequence[Tensor], like: Tensor, version: int, attrs: Mapping[str, float]) -> Tensor:
    """Trace to an operator whose output has the shape and dtype of a tensor."""
    return torch.onnx.ops.symbolic(name, inputs, attrs=dict(attrs), dtype=like.dtype, shape=like.shape, version=version)


class Projection(nn.Module):
    """A linear layer whose weight is stored as [in, out], so that it traces to MatMul (+ Add) without Transpose."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.T.clone(memory_format=torch.contiguous_format), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        product = torch.matmul(x, self.weight)
        return product if self.bias is None else product + self.bias


class BiasedRelu(nn.Module):
    """relu(y + bias); or max(y, -bias), which is smaller by the bias: `next_bias` makes up for it."""

    def __init__(self, bias: Tensor, *, as_max: bool) -> None:
        super().__init__()
        self.as_max = as_max
        self.operand = nn.Parameter(-bias if as_max else bias.clone(), requires_grad=False)

    def forward(self, y: Tensor) -> Tensor:
        return torch.maximum(y, self.operand) if self.as_max else F.relu(y + self.operand)

    def next_bias(self, following: nn.Linear) -> Tensor:
        """Return the bias of the linear layer that follows."""
        if not self.as_max:
            return following.bias
        return (following.bias.double() - following.weight.double() @ self.operand.double()).to(following.bias.dtype)


class FoldedLayer(nn.Module):
    """A transformer layer with most biases folded into others; may change the bias of the norm `before` it."""

    def __init__(self, layer: EncoderLayer, ops: EagerOps, before: nn.LayerNorm, *, merge_biases: bool) -> None:
        super().__init__()
        attention = layer.self_attn
        (q, k, v), (q_bias, _, v_bias) = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        self.n_heads, self.ops = attention.n_heads, ops
        out, shift = attention.out_proj, torch.zeros_like(before.bias, dtype=torch.float64)
        absorbed = _absorb(q_bias, q, before) if merge_biases else None
        if absorbed is None:
            self.query = Projection(q, q_bias)
        else:
            self.query, shift = Projection(absorbed[0]), absorbed[1]
            before.bias.add_(shift)
        self.key, self.value, self.output = Projection(k), Projection(v), Projection(out.weight)
        folded_bias = out.bias.double() + out.weight.double() @ (v_bias.double() - v.double() @ shift) - shift
        self.output_bias = nn.Parameter(folded_bias.to(v_bias.dtype), requires_grad=False)
        self.linear1, self.linear2 = Projection(layer.linear1.weight), Projection(layer.linear2.weight)
        self.relu = BiasedRelu(layer.linear1.bias, as_max=merge_biases)
        self.linear2_bias = nn.Parameter(self.relu.next_bias(layer.linear2).clone(), requires_grad=False)
        self.norm1, self.norm2 = deepcopy(layer.norm1), deepcopy(layer.norm2)

    def forward(self, x: Tensor, log_channel: Tensor | None = None) -> Tensor:
        if log_channel is None:
            attended = self.ops.attention(self.query(x), self.key(x), self.value(x), self.n_heads)
        else:
            attended = self._attend_to_merged(x, log_channel)
        x = self.ops.skip_norm(x, self.output(attended), self.output_bias, self.norm1)
        return self.ops.skip_norm(x, self.linear2(self.relu(self.linear1(x))), self.linear2_bias, self.norm2)

    def _attend_to_merged(self, x: Tensor, log_channel: Tensor) -> Tensor:
        """Attend to keys that stand for several: one more channel per head adds log(count) to the key's scores.

        The weights get a column of zeros per head. ONNX Runtime computes that once, when it loads the graph; in the
        file they stay as they are, and can be shared with the graph that does not merge.
        """
        root = (self.query.weight.shape[-1] // self.n_heads) ** 0.5
        bias = torch.zeros_like(self.output_bias) if self.query.bias is None else self.query.bias
        q = torch.matmul(x, self._widened(self.query.weight)) + self._widened(bias, root)
        k = torch.matmul(x, self._widened(self.key.weight)) + log_channel
        return self.ops.attention(q, k, self.value(x), self.n_heads, scale=1 / root)

    def _widened(self, projection: Tensor, channel: float = 0.0) -> Tensor:
        return F.pad(projection.unflatten(-1, (self.n_heads, -1)), (0, 1), value=channel).flatten(-2)


class FoldedValueEncoder(nn.Module):
    """`ContinuousValueEncoder` as traced; clips in float32, so that half precision never sees the raw input."""

    def __init__(self, encoder: ContinuousValueEncoder, *, merge_biases: bool) -> None:
        super().__init__()
        # An outer product: as a multiplication it needs no matrix kernel of inner width one.
        self.scale = nn.Parameter(encoder.linear1.weight[:, 0].clone(), requires_grad=False)
        self.relu = BiasedRelu(encoder.linear1.bias, as_max=merge_biases)
        self.linear2 = Projection(encoder.linear2.weight, self.relu.next_bias(encoder.linear2))
        self.norm = deepcopy(encoder.norm)

    def forward(self, values: Tensor) -> Tensor:
        clipped = torch.clamp(values.unsqueeze(-1), max=MAX_VALUE).to(self.norm.weight.dtype)
        return self.norm(self.linear2(self.relu(clipped * self.scale)))


class InferenceNetwork(nn.Module):
    """The graph's contract: (values, pert_flags, gene_index) -> predicted.

    The gene table [n_genes, d_model] holds, for gene i of the bundle, the sum of everything that depends on the gene
    alone; `gene_index` selects the rows to predict.
    """

    def __init__(self, model: ReferenceModel, token_ids: Tensor, ops: EagerOps, *, merge_biases: bool) -> None:
        super().__init__()
        self.gene_table = nn.Parameter(model.gene_embedding(token_ids), requires_grad=False)
        # Row 2 is the padding row, never used at inference.
        self.pert_table = nn.Parameter(model.pert_encoder.weight[:2].clone(), requires_grad=False)
        encoder = model.value_encoder
        self.value_encoder = None if encoder is None else FoldedValueEncoder(encoder, merge_biases=merge_biases)
        self.ln = deepcopy(model.ln)
        layers: list[FoldedLayer] = []
        for layer in model.layers:
            before = layers[-1].norm2 if layers else self.ln
            layers.append(FoldedLayer(layer, ops, before, merge_biases=merge_biases))
        self.layers = nn.ModuleList(layers)
        # Where the keys of merged tokens have the extra channel: [n_heads * (head width + 1)].
        n_heads = model.shape.n_heads
        last_of_heads = torch.zeros(n_heads, model.shape.d_model // n_heads + 1)
        last_of_heads[:, -1] = 1.0
        self.log_channels = nn.Parameter(last_of_heads.flatten(), requires_grad=False)
        self.decoder = nn.ModuleList(Projection(m.weight, m.bias) for m in model.decoder.fc if isinstance(m, nn.Linear))

    def forward(
        self, values: Tensor, pert_flags: Tensor, gene_index: Tensor, log_count: Tensor | None = None
    ) -> Tensor:
        """Predict [batch, n_genes] float32 from inputs as in the bundle format.

        `log_count` [n_genes] float32 is for merged tokens: the logarithm of how many each stands for; None for one.
        """
        x = F.embedding(gene_index, self.gene_table) + F.embedding(pert_flags, self.pert_table)
        if self.value_encoder is not None:
            x = x + self.value_encoder(values)
        x = self.ln(x)
        log_channel = None if log_count is None else log_count.unsqueeze(-1) * self.log_channels
        for layer in self.layers:
            x = layer(x, log_channel)
        for i, projection in enumerate(self.decoder):
            x = projection(F.leaky_relu(x, 0.01) if i else x)
        return x.squeeze(-1).float()


def fold(model: ReferenceModel, token_ids: Tensor, ops: EagerOps, *, merge_biases: bool = True) -> InferenceNetwork:
    """Fold a reference model for a fixed gene list: `token_ids` [n_genes] int64 are vocabulary ids.

    `merge_biases` leaves no operation for the biases of queries and before ReLU: faster, and rounded differently.

    Raises `CheckpointError` if an embedding row of one of the genes holds NaN or infinity.
    """
    network = InferenceNetwork(model, token_ids, ops, merge_biases=merge_biases).eval()
    check_finite(network.gene_table, token_ids, model.source)
    return network


def _absorb(bias: Tensor, weight: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor] | None:
    """Return the weight that holds the bias of a linear layer, and what to add to the bias of the norm before it.

    None if the norm has weights so small beside its biases that the sums would lose digits.
    """
    bias, weight, scale = bias.double(), weight.double(), norm.weight.double()
    offset = norm.bias.double() / scale
    step = torch.where(offset.sum() < 0, -_SHIFT, _SHIFT)
    left = bias - weight @ (step * scale)
    total = offset.sum() + step * len(scale)
    existing = (weight.square() @ (scale.square() + norm.bias.double().square())).mean().sqrt()
    added = left.square().mean().sqrt() * (1 + (offset + step).square()).sum().sqrt() / total.abs()
    if not added <= _MOST_ADDED * existing:  # also if a weight of the norm is zero
        return None
    return (weight + torch.outer(left / total, 1 / scale)).to(norm.weight.dtype), step * scale
