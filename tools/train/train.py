#!/usr/bin/env python3
"""Trains the built-in model by the wall clock: train.py SECONDS DATA_DIR OUT_DIR.

  warm-up, steady -> export "early" as it stands -> decay -> MTP block -> export "builtin"

A step (forward, backward, clipping, AdamW) is recorded as one CUDA graph per row length; where that fails it runs eagerly. Exports run as
processes of their own on the CPU while training goes on. Without a GPU the same code runs a tiny rehearsal.
"""
import glob
import lzma
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F

from model import Mtp, Shape, Trunk

START = time.time()
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
PEAK_LR, FLOOR = 2e-3, 0.02
PROMPT_WEIGHT = 0.08
NARROW = [0, 24, 0, 48, 16, 0, 64]      # windows in turn; 0 is the whole one. Seven is prime to the mix of rows


class Log:
    def __init__(self, path):
        self.file = open(path, "w")

    def __call__(self, *words):
        line = f"[{time.time() - START:6.1f}] " + " ".join(str(w) for w in words)
        print(line, flush=True)
        print(line, file=self.file, flush=True)


def contents(path):
    with (lzma.open if path.endswith(".xz") else open)(path, "rb") as f:
        return f.read()


def load_rows(folder, prefix, length):
    files = sorted(glob.glob(f"{folder}/{prefix}*"))
    with ThreadPoolExecutor() as pool:
        parts = [np.frombuffer(b, "<u2").reshape(-1, length) for b in pool.map(contents, files)]
    return torch.from_numpy(np.concatenate(parts).astype(np.int16)).to(DEVICE)


def loss_of(logits, targets, flags):
    w = torch.where(flags == 2, 1.0, torch.where(flags == 1, PROMPT_WEIGHT, 0.0))
    ce = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
    w = w.flatten()
    hard = (flags == 2).flatten()
    return (ce * w).sum() / (w.sum() + 1e-6), ((ce * hard).sum() / (hard.sum() + 1e-6)).detach()


class Step:
    """One kind of training step with static inputs; recorded if possible."""

    def __init__(self, name, run, rows, batch, params, lr, log, pool=None):
        self.name, self.run, self.rows, self.batch = name, run, rows, batch
        self.params = [p for p in params if p.requires_grad]
        decay = [p for p in self.params if p.dim() >= 2]
        plain = [p for p in self.params if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
        self.lr = lr
        kw = {"capturable": True, "fused": True} if CUDA else {}
        self.opt = torch.optim.AdamW(groups, lr=lr if CUDA else float(lr), betas=(0.9, 0.95), eps=1e-8, **kw)
        self.order, self.at = torch.randperm(len(rows)), 0
        self.idx = torch.zeros(batch, dtype=torch.long, device=DEVICE)
        self.graph, self.pool, self.log = None, pool, log
        self.loss = torch.zeros((), device=DEVICE)

    def compute(self):
        row = self.rows[self.idx].long()
        tokens, flags = row & 8191, row >> 13
        total, shown = self.run(tokens, flags)
        total.backward()
        norm = torch.sqrt(sum((p.grad.float() ** 2).sum() for p in self.params if p.grad is not None))
        scale = (1.0 / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_([p.grad for p in self.params if p.grad is not None], scale)
        if not CUDA:
            for g in self.opt.param_groups:
                g["lr"] = float(self.lr)
        self.opt.step()
        self.loss.copy_(shown)

    def share(self, other):
        """Same parameters, same optimiser state: only the recorded step differs."""
        self.opt = other.opt

    def record(self):
        for _ in range(3):
            self.next_batch()
            self.zero()
            self.compute()
        if not CUDA:
            return
        try:
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            self.zero()
            with torch.cuda.graph(graph, pool=self.pool):
                self.compute()
            self.graph = graph
        except Exception as e:
            self.graph = None
            self.log(f"{self.name}: recording failed, running eagerly: {type(e).__name__}: {str(e)[:300]}")
            torch.cuda.synchronize()

    def zero(self):
        for p in self.params:
            p.grad = None

    def next_batch(self):
        if self.at + self.batch > len(self.order):
            self.order, self.at = torch.randperm(len(self.rows)), 0
        self.idx.copy_(self.order[self.at:self.at + self.batch], non_blocking=True)
        self.at += self.batch

    def __call__(self):
        self.next_batch()
        if self.graph:
            self.graph.replay()
        else:
            self.zero()
            self.compute()


def trunk_run(trunk):
    def run(tokens, flags):
        logits, index_loss = trunk(tokens[:, :-1])
        total, shown = loss_of(logits, tokens[:, 1:], flags[:, 1:])
        return total + 0.05 * index_loss, shown
    return run


def mtp_run(trunk, mtp):
    def run(tokens, flags):
        with torch.no_grad():
            h, _ = trunk.streams(tokens[:, :-2])
        logits = mtp(h, tokens[:, 1:-1], trunk)
        return loss_of(logits, tokens[:, 2:], flags[:, 2:])
    return run


def export(trunk, mtp, name, folder, out, log):
    """Starts a process that quantises and writes; returns it."""
    path = f"/tmp/{name}.pt"
    torch.save({"trunk": {k: v.detach().float().cpu() for k, v in trunk.state_dict().items()},
                "mtp": {k: v.detach().float().cpu() for k, v in mtp.state_dict().items()}, "shape": trunk.s}, path)
    here = os.path.dirname(os.path.abspath(__file__))
    env = dict(os.environ, CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="6")
    log(f"export {name}")
    return subprocess.Popen([sys.executable, f"{here}/export.py", path, f"{out}/{name}.gguf", f"{out}/{name}.oracle"],
                            env=env, stdout=open(f"{out}/{name}.log", "w"), stderr=subprocess.STDOUT)


def rate(t, lo, hi, warm, decay_from):
    """Share of the peak learning rate at time t of a cycle [lo, hi)."""
    if t < warm:
        return max((t - lo) / (warm - lo), 0.01)
    if t < decay_from:
        return 1.0
    return FLOOR + (1 - FLOOR) * max((hi - t) / (hi - decay_from), 0.0)


class Trainer:
    def __init__(self, seconds, data, out):
        self.out, self.end = out, seconds
        self.log = Log(f"{out}/train.log")
        torch.manual_seed(1)
        np.random.seed(1)
        self.log(f"torch {torch.__version__} on", torch.cuda.get_device_name() if CUDA else "cpu")
        tiny = not CUDA
        s = Shape(dtype=torch.bfloat16) if CUDA else Shape(ratios=(0, 4, 128), experts=4, used=2)
        self.trunk, self.mtp = Trunk(s).to(DEVICE).train(), Mtp(s).to(DEVICE).train()
        self.log(sum(p.numel() for p in self.trunk.parameters()), "+", sum(p.numel() for p in self.mtp.parameters()), "parameters")
        self.short, self.long = load_rows(data, "short", 513), load_rows(data, "long", 4097)
        self.probes = load_rows(data, "probe", 513)
        if tiny:
            self.probes = self.probes[:4]
            self.short = self.short[:2000, :129]
            self.long = self.long[:40, :257]
        self.log("rows", tuple(self.short.shape), tuple(self.long.shape))
        self.lr = torch.tensor(PEAK_LR, device=DEVICE)
        self.mtp_lr = torch.tensor(PEAK_LR, device=DEVICE)
        self.tokens = 0
        self.steps = {}
        self.make_steps(tiny)

    def make(self, name, run, rows, sizes, params, lr, base=None):
        """A step with the largest batch of `sizes` that fits."""
        for batch in sizes:
            try:
                step = Step(name, run, rows, batch, params, lr, self.log)
                if base:
                    step.share(base)
                t = time.time()
                step.record()
                if CUDA:
                    torch.cuda.synchronize()
                self.log(f"{name}: batch {batch}, {'recorded' if step.graph else 'eager'} in {time.time() - t:.1f} s, "
                         f"{torch.cuda.memory_reserved() / 1e9 if CUDA else 0:.1f} GB")
                return step
            except RuntimeError as e:
                if "memory" not in str(e):
                    raise
                self.log(f"{name}: batch {batch} does not fit")
                del step
                torch.cuda.empty_cache()
        raise RuntimeError(f"{name}: no batch size fits")

    def make_steps(self, tiny):
        trunk_params, mtp_params = list(self.trunk.parameters()), list(self.mtp.parameters())
        self.lr.fill_(1e-4)
        self.mtp_lr.fill_(1e-4)
        self.steps["short"] = self.make("short", trunk_run(self.trunk), self.short, [2] if tiny else [64, 48, 32, 16], trunk_params, self.lr)
        self.steps["long"] = self.make("long", trunk_run(self.trunk), self.long, [1] if tiny else [6, 4, 2], trunk_params, self.lr, self.steps["short"])
        self.steps["mtp"] = self.make("mtp", mtp_run(self.trunk, self.mtp), self.short, [2] if tiny else [64, 32, 16], mtp_params, self.mtp_lr)

    def now(self):
        return time.time() - START

    def guard(self, shown):
        """Keeps the last weights whose loss was a number; goes back to them, slower, when it no longer is."""
        state = [p.data for m in (self.trunk, self.mtp) for p in m.parameters()]
        if all(np.isfinite(x) for x in shown):
            self.good = [x.clone() for x in state]
            return
        self.log("loss is not a number: back to the last good weights, half the rate")
        self.slower *= 0.5
        for x, good in zip(state, self.good):
            x.copy_(good)
        for step in self.steps.values():
            for st in step.opt.state.values():
                st["exp_avg"].zero_()
                st["exp_avg_sq"].zero_()

    def narrow(self, n):
        """In some steps the window is narrower, so that what is near must come through the compressed rows too."""
        reach = NARROW[n % len(NARROW)] or self.trunk.s.window
        for layer in self.trunk.layers:
            if layer.attn.ratio:
                layer.attn.reach.fill_(reach)

    def probe(self):
        """Share of the tokens of answers about facts beyond the window that come out right."""
        self.trunk.eval()
        with torch.no_grad():
            row = self.probes.long()
            tokens, target = row & 8191, row[:, 1:] >> 13 == 2
            right = self.trunk(tokens[:, :-1])[0].argmax(-1) == tokens[:, 1:]
        self.trunk.train()
        self.log(f"probe: {(right & target).sum().item() / target.sum().item():.3f} of recalled tokens right")

    def phase(self, kinds, until, rate_of, lr, peak):
        n, shown, began, first = 0, self.now(), self.now(), self.tokens
        probed = shown
        while self.now() < until:
            kind = kinds[n % len(kinds)]
            self.narrow(n if self.now() < self.narrow_until else 0)
            lr.fill_(self.slower * peak * rate_of(self.now()))
            self.steps[kind]()
            self.tokens += self.steps[kind].batch * (self.steps[kind].rows.shape[1] - 1)
            n += 1
            if n % 8 == 0 and CUDA:
                torch.cuda.synchronize()
            if self.now() - shown > 4:
                shown = self.now()
                if shown - probed > 30 and kinds != ["mtp"]:
                    probed = shown
                    self.probe()
                losses = {k: self.steps[k].loss.item() for k in dict.fromkeys(kinds)}
                self.guard(losses.values())
                text = " ".join(f"{k} {v:.4f}" for k, v in losses.items())
                self.log(f"step {n} lr {lr.item():.2e} {text} tokens {self.tokens / 1e6:.1f}M "
                         f"{(self.tokens - first) / (shown - began) / 1e3:.0f}k/s")
                for k, v in losses.items():
                    print(f"{shown:.1f},{self.tokens},{k},{v:.5f}", file=self.curve, flush=True)

    def run(self):
        t0 = self.now()
        span = self.end - t0 - (25 if CUDA else 8)
        at = lambda share: t0 + share * span
        self.good, self.slower = None, 1.0
        self.curve = open(f"{self.out}/loss.csv", "w")
        print("seconds,tokens,rows,loss", file=self.curve)
        mix = ["short", "short", "short", "long"]
        self.narrow_until = at(0.7)
        trunk_rate = lambda t: rate(t, t0, at(0.9), t0 + min(5, 0.1 * span), at(0.55))
        self.phase(mix, at(0.6), trunk_rate, self.lr, PEAK_LR)
        early = export(self.trunk, self.mtp, "early", None, self.out, self.log)
        self.phase(mix, at(0.9), trunk_rate, self.lr, PEAK_LR)
        self.phase(["mtp"], at(1.0), lambda t: rate(t, at(0.9), at(1.0), at(0.91), at(0.94)), self.mtp_lr, 0.8 * PEAK_LR)
        final = export(self.trunk, self.mtp, "builtin", None, self.out, self.log)
        early.wait()
        final.wait()
        self.log("done")


if __name__ == "__main__":
    os.makedirs(sys.argv[3], exist_ok=True)
    Trainer(float(sys.argv[1]), sys.argv[2], sys.argv[3]).run()
