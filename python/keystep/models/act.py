"""Goal-conditioned Action Chunking Transformer (Zhao et al. 2023, arXiv:2304.13705; HD-ExpIt, App. B)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from keystep.models.config import ActConfig
from keystep.models.encoders import resnet18
from keystep.models.padding import unpadded

Batch = dict[str, Tensor]


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """[N] -> [N, width], interleaved sine and cosine (Vaswani et al. 2017)."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = positions[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]


def image_positions(height: int, width: int, channels: int) -> Tensor:
    """Sinusoids of row and column of a feature map, over (0, 2 pi] (Carion et al. 2020). [h w, channels]."""
    half = channels // 2
    rows = sinusoids(2 * math.pi * torch.arange(1, height + 1) / height, half)
    columns = sinusoids(2 * math.pi * torch.arange(1, width + 1) / width, channels - half)
    grid = [rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)]
    return torch.cat(grid, dim=-1).flatten(0, 1)


class Attention(nn.Module):
    """Multi-head attention whose queries and keys carry positions, [B, T, D] from [B, S, D].

    W (x + position) = W x + W position. The second term does not depend on the input: where positions are
    parameters, an exporter's constant folding leaves one product for queries, keys and values.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.xavier_uniform_(self.out.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, position: Tensor, seen: Tensor | None = None) -> Tensor:
        """Self-attention. position: [T, D]; seen: [B, 1, 1, T] bool, the keys to attend to, None: all."""
        query_key, bias = self.qkv.weight.chunk(3)[:2], self.qkv.bias
        shift = functional.linear(position, torch.cat(query_key))
        offset = functional.pad(shift, (0, x.shape[-1])) + bias
        query, key, value = (functional.linear(x, self.qkv.weight) + offset).chunk(3, dim=-1)
        return self.attend(query, key, value, seen)

    def cross(self, x: Tensor, position: Tensor, memory: Tensor, memory_position: Tensor) -> Tensor:
        """From x [B, T, D] to memory [B, S, D]."""
        width = x.shape[-1]
        weight, bias = self.qkv.weight.split([width, 2 * width]), self.qkv.bias.split([width, 2 * width])
        query = functional.linear(x, weight[0]) + (functional.linear(position, weight[0]) + bias[0])
        shift = functional.pad(functional.linear(memory_position, weight[1][:width]), (0, width))
        key, value = (functional.linear(memory, weight[1]) + (shift + bias[1])).chunk(2, dim=-1)
        return self.attend(query, key, value)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
        rows = [part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)]
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(rows[0], rows[1], rows[2], seen, dropout)
        return self.out(mixed.transpose(1, 2).flatten(2))


def feed_forward(width: int, hidden: int, dropout: float) -> nn.Sequential:
    first, second = nn.Linear(width, hidden), nn.Linear(hidden, width)
    for layer in (first, second):
        nn.init.xavier_uniform_(layer.weight)
    return nn.Sequential(first, nn.ReLU(), nn.Dropout(dropout), second)


class EncoderLayer(nn.Module):
    """Transformer encoder layer, normalised after each sum."""

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads, config.dropout)
        self.feedforward = feed_forward(config.width, config.feedforward, config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(2))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, position: Tensor, seen: Tensor | None = None) -> Tensor:
        x = self.norms[0](x + self.drop(self.attention(x, position, seen)))
        return self.norms[1](x + self.drop(self.feedforward(x)))


class DecoderLayer(nn.Module):
    """Transformer decoder layer: self-attention, attention to the encoder's output, feed-forward."""

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads, config.dropout)
        self.cross_attention = Attention(config.width, config.heads, config.dropout)
        self.feedforward = feed_forward(config.width, config.feedforward, config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(3))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, position: Tensor, memory: Tensor, memory_position: Tensor) -> Tensor:
        x = self.norms[0](x + self.drop(self.attention(x, position)))
        seen = self.cross_attention.cross(x, position, memory, memory_position)
        x = self.norms[1](x + self.drop(seen))
        return self.norms[2](x + self.drop(self.feedforward(x)))


class ActController(nn.Module):
    """A chunk of actions from an observation, and a task or a goal, in one pass.

    Batches are those of `DiffusionController`, with one frame of every feature; the vectors of a view are one
    token.
    """

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.views = config.views()
        if config.vectors:
            self.state = nn.ModuleDict({view: nn.Linear(config.vector_width, width) for view in self.views})
        if config.images:
            sizes = [feature.network_shape()[1:] for feature in config.images]  # channels, height, width
            self.backbone = resnet18(config.image_width, channels=sizes[0][0])
            self.image = nn.Linear(8 * config.image_width, width)
            # One row per image: without it a token would not tell whether it is of the goal.
            images = len(self.views) * len(config.images)
            self.image_names = nn.Parameter(0.02 * torch.randn(images, 1, width))
            grids = {size: image_positions(-(-size[1] // 32), -(-size[2] // 32), width) for size in sizes}
            cells = [grids[size] for size in sizes] * len(self.views)
            self._same_size = len(grids) == 1
            self._cells = [len(grid) for grid in cells]  # of every image
            self.grid: Tensor
            self.register_buffer("grid", torch.cat(cells), persistent=False)
        if config.tasks:
            self.task_embedding = nn.Embedding(config.tasks, width)
        self.latent = nn.Linear(config.latent, width)
        vectors = 1 + (len(self.views) if config.vectors else 0) + (config.tasks > 0)
        self.vector_positions = nn.Parameter(0.02 * torch.randn(vectors, width))
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.queries = nn.Parameter(0.02 * torch.randn(config.horizon, width))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.action = nn.Linear(width, config.action_dim)
        self.posterior = Posterior(config)

    def act(self, batch: Batch) -> Tensor:
        """The chunk of the prior's mean, latent zero: [B, H, A]."""
        some = batch[self.config.observation[0].key]
        return self.decode(batch, some.new_zeros(some.shape[0], self.config.latent))

    def decode(self, batch: Batch, latent: Tensor) -> Tensor:
        """[B, latent] -> [B, H, A]."""
        x, position = self._tokens(batch, latent)
        for layer in self.encoder:
            x = layer(x, position)
        y = x.new_zeros(x.shape[0], *self.queries.shape)
        for layer in self.decoder:
            y = layer(y, self.queries, x, position)
        return self.action(self.decoder_norm(y))

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """L1 of the chunk plus kl_weight times the divergence of the latent from N(0, 1).

        Rows of `action_is_pad` do not count, nor does the posterior see them (as in Zhao et al.'s code).
        The generator decides dropout, too: a resumed training continues exactly.
        """
        action, padding = batch["action"], batch.get("action_is_pad")
        device = action.device
        seed = int(torch.randint(2**62, (), generator=generator, device=device))
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            mean, log_variance = self.posterior(action, self._vectors(batch, "observation"), padding)
            noise = torch.randn_like(mean)
            chunk = self.decode(batch, mean + (0.5 * log_variance).exp() * noise)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        error = functional.l1_loss(unpadded(chunk, padding), unpadded(action, padding))
        return error + self.config.kl_weight * divergence

    def _vectors(self, batch: Batch, view: str) -> Tensor | None:
        """All vectors of a view side by side, [B, S]; None where there are none."""
        parts = [batch[f"{view}.{feature.name}"] for feature in self.config.vectors]
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0] if parts else None

    def _tokens(self, batch: Batch, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Latent, states, task and the cells of every image: [B, T, D] and their positions [T, D]."""
        vectors = [self.latent(latent)]
        if self.config.vectors:
            vectors += [self.state[view](self._vectors(batch, view)) for view in self.views]
        if self.config.tasks:
            vectors.append(self.task_embedding(batch["task"]))
        tokens = torch.stack(vectors, dim=1)
        position: Tensor = self.vector_positions
        if self.config.images:
            tokens = torch.cat([tokens, self._image_tokens(batch)], dim=1)
            names = [row.expand(count, -1) for row, count in zip(self.image_names, self._cells, strict=True)]
            position = torch.cat([position, torch.cat(names) + self.grid])
        return tokens, position

    def _image_tokens(self, batch: Batch) -> Tensor:
        """The cells of every image, [B, T, D]. Images of one size go through the encoder together."""
        names = [f"{view}.{feature.name}" for view in self.views for feature in self.config.images]
        if not self._same_size:
            maps = [self.backbone(batch[name]).flatten(2).transpose(1, 2) for name in names]
            return self.image(torch.cat(maps, dim=1))
        maps = self.backbone(torch.cat([batch[name] for name in names])).flatten(2).transpose(1, 2)
        return self.image(maps).unflatten(0, (len(names), -1)).transpose(0, 1).flatten(1, 2)


class Posterior(nn.Module):
    """Encoder of the variational auto-encoder, for training: a chunk to the distribution of its latent."""

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        width = config.width
        self.summary = nn.Parameter(0.02 * torch.randn(1, width))
        self.action = nn.Linear(config.action_dim, width)
        if config.vectors:
            self.state = nn.Linear(config.vector_width, width)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.vae_layers))
        self.out = nn.Linear(width, 2 * config.latent)
        tokens = config.horizon + 1 + bool(config.vectors)
        self.register_buffer("positions", sinusoids(torch.arange(tokens), width), persistent=False)

    def forward(
        self, action: Tensor, state: Tensor | None, padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """[B, H, A], [B, S] or None -> mean and log variance, [B, latent] each.

        padding: [B, H] bool, rows to overlook.
        """
        parts = [self.summary.expand(len(action), -1, -1)]
        if state is not None:
            parts.append(self.state(state)[:, None])
        x = torch.cat([*parts, self.action(action)], dim=1)
        seen = None
        if padding is not None:
            others = padding.new_ones(len(padding), x.shape[1] - padding.shape[1])
            seen = torch.cat([others, ~padding], dim=1)[:, None, None]
        for layer in self.layers:
            x = layer(x, self.positions, seen)
        mean, log_variance = self.out(x[:, 0]).chunk(2, dim=-1)
        return mean, log_variance
