#!/usr/bin/env python3
"""Compares model.py with logits of the public implementation: check_oracle.py DIR (holding mini-a.gguf, mini-a.oracle, mini-a.json, ...)."""
import json
import os
import struct
import sys

import numpy as np
import torch

import gguf
from model import Mtp, Shape, Trunk


def oracle(path):
    b = open(path, "rb").read()
    assert b[:4] == b"V4OR"
    _, t, vocab, layers, hc, hidden, n_pos = struct.unpack_from("<7I", b, 4)
    ids = np.frombuffer(b, "<i4", t, 32)
    logits = np.frombuffer(b, "<f4", t * vocab, 32 + 4 * t).reshape(t, vocab)
    return torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(logits.copy())


def shape_of(j):
    return Shape(vocab=j["vocab"], dim=j["hidden"], heads=j["heads"], head_dim=j["head_dim"], rot=j["rope"], q_rank=j["q_lora"], groups=j["o_groups"],
                 o_rank=j["o_lora"], inner=j.get("inner", j.get("moe_inter", 32)), experts=j["experts"], used=j["topk"], scale=j["scale"], hash_layers=j["hash_layers"],
                 window=j["window"], index_heads=j["idx_heads"], index_dim=j["idx_dim"], top_k=j["idx_topk"], limit=j["limit"], ratios=tuple(j["ratios"]),
                 yarn_factor=j["yarn"]["factor"], yarn_original=j["yarn"]["original"])


def main(folder):
    worst = 0
    with torch.no_grad():
        for name in ("mini-a", "mini-b", "mini-mtp"):
            s = shape_of(json.load(open(os.path.join(folder, name + ".json"))))
            trunk = Trunk(s).eval()
            _, tensors = gguf.read(os.path.join(folder, name + ".gguf"))
            gguf.load_into(gguf.trunk_names(trunk), tensors)
            ids, want = oracle(os.path.join(folder, name + ".oracle"))
            got, _ = trunk(ids[None], exact_index=True)
            diff = (got[0] - want).abs().max().item()
            print(f"{name}: max {diff:.2e}")
            worst = max(worst, diff)
            if name != "mini-mtp":
                continue
            mtp = Mtp(s).eval()
            gguf.load_into(gguf.mtp_names(mtp), gguf.read(os.path.join(folder, "mini-mtp.mtp.gguf"))[1])
            nxt, want = oracle(os.path.join(folder, "mini-mtp.mtp.oracle"))
            h, _ = trunk.streams(ids[None], exact_index=True)
            got = mtp(h[:, :len(nxt)], nxt[None], trunk)
            diff = (got[0] - want).abs().max().item()
            print(f"mini-mtp draft: max {diff:.2e}")
            worst = max(worst, diff)
    return 0 if worst <= 2e-3 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
