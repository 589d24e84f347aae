"""The architecture in PyTorch, for training: sections 3 and 5.1 of the model specification with static shapes, so that a whole training step can be
recorded as one CUDA graph. Checked against the public implementation's logits (check_oracle.py).

Differences from inference, none of which changes the function at the lengths trained on: every expert is computed for every token and
multiplied by its routing weight (a few large matrix products instead of many small ones); the indexer does not restrict attention (it is
trained to predict where attention goes); rows are whole documents in a fixed length.
"""
import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Shape:
    vocab: int = 4096
    dim: int = 256
    heads: int = 8
    head_dim: int = 64
    rot: int = 32
    q_rank: int = 128
    groups: int = 2
    o_rank: int = 128
    inner: int = 256
    experts: int = 10
    used: int = 3
    scale: float = 1.5
    hash_layers: int = 1
    window: int = 128
    index_heads: int = 8
    index_dim: int = 32
    top_k: int = 512
    streams: int = 4
    iters: int = 20
    limit: float = 10.0
    eps: float = 1e-6
    ratios: tuple = (0, 4, 128, 4, 128, 4)
    context: int = 65536
    rope_base: float = 10000.0
    rope_base_compressed: float = 160000.0
    yarn_factor: float = 16.0
    yarn_original: int = 65536
    dtype: torch.dtype = field(default=torch.float32)   # of the matrix products


def rope_freqs(s, compressed):
    i = torch.arange(s.rot // 2, dtype=torch.float64)
    if not compressed:
        return s.rope_base ** (-2 * i / s.rot)
    g = s.rope_base_compressed ** (-2 * i / s.rot)

    def bound(beta):
        return s.rot * math.log(s.yarn_original / (beta * 2 * math.pi)) / (2 * math.log(s.rope_base_compressed))
    low, high = max(math.floor(bound(32)), 0), min(math.ceil(bound(1)), s.rot - 1)
    if low == high:
        high += 0.001
    t = ((i - low) / (high - low)).clamp(0, 1)
    return g / s.yarn_factor * t + g * (1 - t)


class Rope(nn.Module):
    """cos and sin of [T][R/2]; applied to the last R dims of x [B][T][...][dim]."""

    def __init__(self, s, compressed):
        super().__init__()
        self.register_buffer("freq", rope_freqs(s, compressed).float(), persistent=False)
        self.rot = s.rot

    def table(self, positions):
        angle = positions.float()[:, None] * self.freq
        return angle.cos(), angle.sin()

    def forward(self, x, table, inverse=False):
        cos, sin = table
        if x.dim() == 4:
            cos, sin = cos[:, None], sin[:, None]
        if inverse:
            sin = -sin
        plain, turned = x[..., :-self.rot], x[..., -self.rot:].float()
        a, b = turned[..., 0::2], turned[..., 1::2]
        out = torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)
        return torch.cat((plain, out.to(x.dtype)), -1)


def rms(x, eps):
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


class Linear(nn.Module):
    def __init__(self, n_in, n_out, dtype, std=None):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) * (std or n_in ** -0.5))
        self.dtype = dtype

    def forward(self, x):
        return F.linear(x.to(self.dtype), self.weight.to(self.dtype))


class Hyper(nn.Module):
    """Hyper-connection around one half of a layer."""

    def __init__(self, s):
        super().__init__()
        n = s.streams
        self.s = s
        self.fn = nn.Parameter(torch.randn(2 * n + n * n, n * s.dim) * 0.02)
        base = torch.zeros(2 * n + n * n)
        base[2 * n:] = (4 * torch.eye(n)).flatten()
        base[:n] = -1.1
        self.base = nn.Parameter(base)
        self.scale = nn.Parameter(torch.full((3,), 0.1))

    def mix(self, h):
        s, n = self.s, self.s.streams
        flat = h.flatten(-2)
        rs = torch.rsqrt(flat.float().square().mean(-1, keepdim=True) + s.eps)
        if s.dtype == torch.float32:
            m = F.linear(flat, self.fn) * rs
        else:
            m = F.linear(flat.to(s.dtype), self.fn.to(s.dtype)).float() * rs
        pre = torch.sigmoid(m[..., :n] * self.scale[0] + self.base[:n]) + s.eps
        post = 2 * torch.sigmoid(m[..., n:2 * n] * self.scale[1] + self.base[n:2 * n])
        c = (m[..., 2 * n:] * self.scale[2] + self.base[2 * n:]).unflatten(-1, (n, n))
        return pre, post, sinkhorn(c, s.iters, s.eps)


def sinkhorn(c, iters, eps):
    """All iterations forward; gradients go through the last two only, from where the rest has nearly converged: the scalings found without
    gradient are constants."""
    first = torch.softmax(c, -1) + eps
    with torch.no_grad():
        p = first / (first.sum(-2, keepdim=True) + eps)
        for _ in range(iters - 1):
            p = p / (p.sum(-1, keepdim=True) + eps)
            p = p / (p.sum(-2, keepdim=True) + eps)
        scaling = p / first
    if not torch.is_grad_enabled():
        return p
    q = first * scaling
    for _ in range(2):
        q = q / q.sum(-1, keepdim=True)
        q = q / q.sum(-2, keepdim=True)
    return q + (p - q).detach()


def gather(h, pre):
    return (pre.unsqueeze(-1) * h.float()).sum(-2)


def spread(h, f, post, comb):
    return post.unsqueeze(-1) * f.float().unsqueeze(-2) + torch.matmul(comb.transpose(-1, -2), h.float())


class Compressor(nn.Module):
    def __init__(self, s, ratio, dim, rope):
        super().__init__()
        self.s, self.ratio, self.dim, self.rope = s, ratio, dim, rope
        width = dim * (2 if ratio == 4 else 1)
        self.kv = Linear(s.dim, width, s.dtype)
        self.gate = Linear(s.dim, width, s.dtype)
        self.ape = nn.Parameter(torch.randn(ratio, width) * 0.02)
        self.norm = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        """x [B][T][D] -> entries [B][T // ratio][dim]"""
        r, n = self.ratio, x.shape[1] // self.ratio
        x = x[:, :n * r]
        u = self.kv(x).float().unflatten(1, (n, r))
        z = self.gate(x).float().unflatten(1, (n, r)) + self.ape
        if r == 4:
            d = self.dim
            u = torch.cat((F.pad(u[:, :-1, :, :d], (0, 0, 0, 0, 1, 0)), u[..., d:]), 2)
            z = torch.cat((F.pad(z[:, :-1, :, :d], (0, 0, 0, 0, 1, 0), value=-1e30), z[..., d:]), 2)
        e = (torch.softmax(z, 2) * u).sum(2)
        e = rms(e, self.s.eps) * self.norm
        return self.rope(e, self.rope.table(torch.arange(n, device=x.device) * r))


class Indexer(nn.Module):
    def __init__(self, s, rope):
        super().__init__()
        self.s, self.rope = s, rope
        self.q_b = Linear(s.q_rank, s.index_heads * s.index_dim, s.dtype)
        self.proj = Linear(s.dim, s.index_heads, s.dtype)
        self.compress = Compressor(s, 4, s.index_dim, rope)

    def scores(self, x, qr, table):
        s = self.s
        k = self.compress(x)
        q = self.rope(self.q_b(qr).unflatten(-1, (s.index_heads, s.index_dim)), table)
        w = self.proj(x).float() * (s.index_heads * s.index_dim) ** -0.5
        dots = torch.einsum("bthd,bed->bthe", q.to(s.dtype), k.to(s.dtype))
        return torch.einsum("bth,bthe->bte", w.to(s.dtype), F.relu(dots)).float()


class Attention(nn.Module):
    def __init__(self, s, ratio):
        super().__init__()
        self.s, self.ratio = s, ratio
        self.register_buffer("reach", torch.tensor(s.window), persistent=False)   # window in training: see train.py
        self.rope = Rope(s, ratio != 0)
        self.q_a = Linear(s.dim, s.q_rank, s.dtype)
        self.q_norm = nn.Parameter(torch.ones(s.q_rank))
        self.q_b = Linear(s.q_rank, s.heads * s.head_dim, s.dtype)
        self.kv = Linear(s.dim, s.head_dim, s.dtype)
        self.kv_norm = nn.Parameter(torch.ones(s.head_dim))
        self.sinks = nn.Parameter(torch.zeros(s.heads))
        per_group = s.heads // s.groups * s.head_dim
        self.o_a = nn.Parameter(torch.randn(s.groups, s.o_rank, per_group) * per_group ** -0.5)
        self.o_b = Linear(s.groups * s.o_rank, s.dim, s.dtype, std=0.5 * (s.groups * s.o_rank) ** -0.5)
        if ratio:
            self.compress = Compressor(s, ratio, s.head_dim, self.rope)
        if ratio == 4:
            self.indexer = Indexer(s, self.rope)

    def forward(self, x, exact_index=False):
        s, (b, t) = self.s, x.shape[:2]
        pos = torch.arange(t, device=x.device)
        table = self.rope.table(pos)
        qr = rms(self.q_a(x), s.eps) * self.q_norm
        q = rms(self.q_b(qr).unflatten(-1, (s.heads, s.head_dim)), s.eps)
        q = self.rope(q, table).to(s.dtype) * s.head_dim ** -0.5
        kv = self.rope(rms(self.kv(x), s.eps) * self.kv_norm, table).to(s.dtype)

        w = s.window
        reach = self.reach if self.training else w
        blocks = -(-t // w)
        pad = blocks * w - t
        qb = F.pad(q, (0, 0, 0, 0, 0, pad)).unflatten(1, (blocks, w))                      # [B][n][w][H][C]
        kb = F.pad(kv, (0, 0, w, pad)).unflatten(1, (blocks + 1, w))
        kb = torch.cat((kb[:, :-1], kb[:, 1:]), 2)                                          # [B][n][2w][C]
        scores = torch.einsum("bnqhc,bnkc->bnqhk", qb, kb).float()
        i, j = torch.arange(w, device=x.device)[:, None], torch.arange(2 * w, device=x.device)[None]
        near = (j > i + w - reach) & (j <= i + w)
        first = near & (j >= w)
        mask = torch.stack([first] + [near] * (blocks - 1)) if blocks > 1 else first[None]
        scores = scores.masked_fill(~mask[None, :, :, None], -1e30).flatten(1, 2)[:, :t]    # [B][T][H][2w]
        parts = [scores, self.sinks.float().expand(b, t, s.heads)[..., None]]
        index_loss = x.new_zeros((), dtype=torch.float32)
        n_entries = t // self.ratio if self.ratio else 0
        if n_entries:
            e = self.compress(x).to(s.dtype)
            seen = torch.arange(n_entries, device=x.device)[None] < ((pos + 1) // self.ratio)[:, None]
            far = torch.einsum("bthc,bec->bthe", q, e).float().masked_fill(~seen[None, :, None], -1e30)
            if self.ratio == 4:
                index = self.indexer.scores(x.detach(), qr.detach(), table).masked_fill(~seen[None], -1e30)
                if exact_index and n_entries > s.top_k:
                    keep = index.topk(s.top_k, -1).indices
                    chosen = torch.zeros_like(index, dtype=torch.bool).scatter_(-1, keep, True)
                    far = far.masked_fill(~chosen[:, :, None], -1e30)
            parts.append(far)
        p = torch.softmax(torch.cat(parts, -1), -1)
        if n_entries and self.ratio == 4 and self.training:
            target = p[..., 2 * w + 1:].mean(2).detach()
            total = target.sum(-1, keepdim=True)
            logp = torch.log_softmax(index, -1)
            index_loss = -(target * logp.clamp(min=-30)).sum(-1).div(total.squeeze(-1) + 1e-6)
            index_loss = (index_loss * (total.squeeze(-1) > 1e-4)).mean()
        p = p.to(s.dtype)
        pw = F.pad(p[..., :2 * w], (0, 0, 0, 0, 0, pad)).unflatten(1, (blocks, w))
        o = torch.einsum("bnqhk,bnkc->bnqhc", pw, kb).flatten(1, 2)[:, :t]
        if n_entries:
            o = o + torch.einsum("bthe,bec->bthc", p[..., 2 * w + 1:], e)
        o = self.rope(o, table, inverse=True).flatten(-2).unflatten(-1, (s.groups, -1))
        low = torch.einsum("btgi,goi->btgo", o.to(s.dtype), self.o_a.to(s.dtype)).flatten(-2)
        return self.o_b(low), index_loss


class Experts(nn.Module):
    def __init__(self, s, hashed):
        super().__init__()
        self.s, self.hashed = s, hashed
        self.router = Linear(s.dim, s.experts, torch.float32)
        if hashed:
            g = torch.Generator().manual_seed(7)
            table = torch.stack([torch.randperm(s.experts, generator=g)[:s.used] for _ in range(s.vocab)])
            self.register_buffer("table", table)
        else:
            self.register_buffer("bias", torch.zeros(s.experts))
        self.gate = nn.Parameter(torch.randn(s.experts, s.inner, s.dim) * s.dim ** -0.5)
        self.up = nn.Parameter(torch.randn(s.experts, s.inner, s.dim) * s.dim ** -0.5)
        self.down = nn.Parameter(torch.randn(s.experts, s.dim, s.inner) * 0.5 * s.inner ** -0.5)
        self.shared_gate = Linear(s.dim, s.inner, s.dtype)
        self.shared_up = Linear(s.dim, s.inner, s.dtype)
        self.shared_down = Linear(s.inner, s.dim, s.dtype, std=0.5 * s.inner ** -0.5)

    def weights(self, x, tokens):
        """[B][T][E], zero for experts that were not chosen; also the load of each expert."""
        s = self.s
        score = torch.sqrt(F.softplus(self.router(x)) + 1e-20)
        ids = self.table[tokens] if self.hashed else (score.detach() + self.bias).topk(s.used, -1).indices
        picked = torch.zeros_like(score).scatter(-1, ids, 1.0)
        chosen = score * picked
        return chosen / (chosen.sum(-1, keepdim=True) + 1e-20) * s.scale, picked

    def forward(self, x, tokens):
        s = self.s
        w, picked = self.weights(x.float(), tokens)
        if self.training and not self.hashed:
            with torch.no_grad():
                load = picked.mean((0, 1))
                self.bias += 1e-3 * torch.sign(load.mean() - load)
        xd = x.to(s.dtype)
        a = F.linear(xd, self.gate.flatten(0, 1).to(s.dtype)).clamp(max=s.limit)
        b = F.linear(xd, self.up.flatten(0, 1).to(s.dtype)).clamp(-s.limit, s.limit)
        t = (F.silu(a) * b).unflatten(-1, (s.experts, s.inner)) * w.to(s.dtype)[..., None]
        y = F.linear(t.flatten(-2), self.down.transpose(0, 1).flatten(1).to(s.dtype))
        a = self.shared_gate(x).clamp(max=s.limit)
        b = self.shared_up(x).clamp(-s.limit, s.limit)
        return y + self.shared_down(F.silu(a) * b)


class Layer(nn.Module):
    def __init__(self, s, ratio, hashed):
        super().__init__()
        self.hyper_attn, self.hyper_ffn = Hyper(s), Hyper(s)
        self.attn_norm, self.ffn_norm = nn.Parameter(torch.ones(s.dim)), nn.Parameter(torch.ones(s.dim))
        self.attn, self.experts = Attention(s, ratio), Experts(s, hashed)
        self.eps = s.eps

    def forward(self, h, tokens, exact_index=False):
        pre, post, comb = self.hyper_attn.mix(h)
        f, loss = self.attn(rms(gather(h, pre), self.eps) * self.attn_norm, exact_index)
        h = spread(h, f, post, comb)
        pre, post, comb = self.hyper_ffn.mix(h)
        f = self.experts(rms(gather(h, pre), self.eps) * self.ffn_norm, tokens)
        return spread(h, f, post, comb), loss


class Head(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.fn = nn.Parameter(torch.randn(s.streams, s.streams * s.dim) * 0.02)
        self.base = nn.Parameter(torch.full((s.streams,), -1.1))
        self.scale = nn.Parameter(torch.full((1,), 0.1))
        self.norm = nn.Parameter(torch.ones(s.dim))

    def forward(self, h):
        flat = h.flatten(-2).float()
        m = F.linear(flat, self.fn) * torch.rsqrt(flat.square().mean(-1, keepdim=True) + self.s.eps)
        return rms(gather(h, torch.sigmoid(m * self.scale[0] + self.base) + self.s.eps), self.s.eps) * self.norm


class Trunk(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.embed = nn.Parameter(torch.randn(s.vocab, s.dim) * 0.5)
        self.layers = nn.ModuleList(Layer(s, r, i < s.hash_layers) for i, r in enumerate(s.ratios))
        self.head = Head(s)
        self.output = Linear(s.dim, s.vocab, s.dtype)

    def streams(self, tokens, exact_index=False):
        h = F.embedding(tokens, self.embed).unsqueeze(-2).expand(-1, -1, self.s.streams, -1)
        index_loss = 0.0
        for layer in self.layers:
            h, loss = layer(h, tokens, exact_index)
            index_loss = index_loss + loss
        return h, index_loss

    def forward(self, tokens, exact_index=False):
        h, index_loss = self.streams(tokens, exact_index)
        return self.output(self.head(h)), index_loss


class Mtp(nn.Module):
    """Fed the trunk's streams at p and token p + 1, proposes token p + 2."""

    def __init__(self, s):
        super().__init__()
        self.s = s
        self.e_proj, self.h_proj = Linear(s.dim, s.dim, s.dtype), Linear(s.dim, s.dim, s.dtype)
        self.e_norm, self.h_norm = nn.Parameter(torch.ones(s.dim)), nn.Parameter(torch.ones(s.dim))
        self.layer = Layer(s, 0, False)
        self.head = Head(s)

    def forward(self, streams, next_tokens, trunk):
        e = self.e_proj(rms(F.embedding(next_tokens, trunk.embed), self.s.eps) * self.e_norm)
        x = e.unsqueeze(-2) + self.h_proj(rms(streams, self.s.eps) * self.h_norm)
        x, _ = self.layer(x.float(), next_tokens)
        return trunk.output(self.head(x))
