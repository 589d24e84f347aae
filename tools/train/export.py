#!/usr/bin/env python3
"""Writes a checkpoint as a model file, then logits of the public implementation on the weights of that file.

  export.py CHECKPOINT.pt OUT.gguf OUT.oracle

OUT.oracle: "SLOR", u32 n_prompts, then per prompt u32 n_ids, i32 ids, u32 n_pos, u32 positions, f32 logits [n_pos][vocab],
u32 n_draft, u32 draft positions, f32 draft logits [n_draft][vocab] (draft row p: streams at p, token p + 1).
"""
import os
import random
import struct
import sys
import time

import numpy as np
import torch

import gguf
from bpe import Tokenizer
from model import Mtp, Shape, Trunk

HERE = os.path.dirname(os.path.abspath(__file__))


def metadata(s, tok):
    p = "deepseek4."
    toks = tok.tokens()
    kv = {
        "general.architecture": ("s", "deepseek4"), "general.name": ("s", "Sluice built-in"), "general.license": ("s", "MIT"),
        p + "block_count": ("u", len(s.ratios)), p + "context_length": ("u", s.context), p + "embedding_length": ("u", s.dim), p + "vocab_size": ("u", s.vocab),
        p + "attention.head_count": ("u", s.heads), p + "attention.head_count_kv": ("u", 1), p + "attention.key_length": ("u", s.head_dim),
        p + "attention.value_length": ("u", s.head_dim), p + "rope.dimension_count": ("u", s.rot), p + "rope.freq_base": ("f", s.rope_base),
        p + "rope.scaling.type": ("s", "yarn"), p + "rope.scaling.factor": ("f", s.yarn_factor), p + "rope.scaling.original_context_length": ("u", s.yarn_original),
        p + "rope.scaling.yarn_beta_fast": ("f", 32.0), p + "rope.scaling.yarn_beta_slow": ("f", 1.0), p + "attention.q_lora_rank": ("u", s.q_rank),
        p + "attention.output_lora_rank": ("u", s.o_rank), p + "attention.output_group_count": ("u", s.groups), p + "attention.compress_ratios": ("ai", list(s.ratios)),
        p + "attention.compress_rope_freq_base": ("f", s.rope_base_compressed), p + "attention.sliding_window": ("u", s.window),
        p + "attention.layer_norm_rms_epsilon": ("f", s.eps), p + "attention.indexer.head_count": ("u", s.index_heads),
        p + "attention.indexer.key_length": ("u", s.index_dim), p + "attention.indexer.top_k": ("u", s.top_k), p + "expert_count": ("u", s.experts),
        p + "expert_used_count": ("u", s.used), p + "expert_shared_count": ("u", 1), p + "expert_feed_forward_length": ("u", s.inner),
        p + "expert_weights_scale": ("f", s.scale), p + "expert_weights_norm": ("b", True), p + "expert_gating_func": ("u", 4), p + "hash_layer_count": ("u", s.hash_layers),
        p + "swiglu_clamp_exp": ("af", [s.limit] * len(s.ratios)), p + "hyper_connection.count": ("u", s.streams),
        p + "hyper_connection.sinkhorn_iterations": ("u", s.iters), p + "hyper_connection.epsilon": ("f", s.eps),
        "tokenizer.ggml.model": ("s", "gpt2"), "tokenizer.ggml.pre": ("s", "joyai-llm"), "tokenizer.ggml.tokens": ("as", [t for t, _ in toks]),
        "tokenizer.ggml.token_type": ("ai", [k for _, k in toks]), "tokenizer.ggml.merges": ("as", tok.merge_lines()),
        "tokenizer.ggml.bos_token_id": ("u", 0), "tokenizer.ggml.eos_token_id": ("u", 1), "tokenizer.ggml.padding_token_id": ("u", 2),
        "tokenizer.ggml.add_bos_token": ("b", False),
    }
    return kv


def file_tensors(trunk, mtp):
    out = {}
    for name, p, t in list(gguf.trunk_names(trunk)) + list(gguf.mtp_names(mtp)):
        x = p.detach().numpy()
        if name.endswith("attn_output_a.weight"):
            x = x.reshape(-1, x.shape[-1])
        out[name] = (t, x)
    return out


def prompts(tok, n):
    from corpus import document
    from protocol import render
    rng = random.Random(9001)
    while n:
        ids = tok.encode("".join(t for t, _ in render(*document(rng, "long" if n % 4 == 0 else "short"))))
        if len(ids) >= 210:
            n -= 1
            yield ids[:300 + 30 * (n % 7)]


def public_model(s, trunk):
    """The transformers classes with our weights."""
    from transformers import DeepseekV4Config, DeepseekV4ForCausalLM
    config = DeepseekV4Config(
        vocab_size=s.vocab, hidden_size=s.dim, moe_intermediate_size=s.inner, num_hidden_layers=len(s.ratios), num_attention_heads=s.heads, head_dim=s.head_dim,
        q_lora_rank=s.q_rank, num_experts_per_tok=s.used, n_routed_experts=s.experts, routed_scaling_factor=s.scale, max_position_embeddings=s.context,
        rope_theta=s.rope_base, compress_rope_theta=s.rope_base_compressed, compress_ratios=list(s.ratios), num_hash_layers=s.hash_layers, qk_rope_head_dim=s.rot,
        swiglu_limit=s.limit, sliding_window=s.window, o_groups=s.groups, o_lora_rank=s.o_rank, index_n_heads=s.index_heads, index_head_dim=s.index_dim,
        index_topk=s.top_k, hc_mult=s.streams, hc_sinkhorn_iters=s.iters, hc_eps=s.eps, rms_norm_eps=s.eps, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1,
        rope_parameters={"rope_type": "yarn", "factor": s.yarn_factor, "original_max_position_embeddings": s.yarn_original, "beta_fast": 32, "beta_slow": 1},
        attn_implementation="eager", experts_implementation="eager")
    model = DeepseekV4ForCausalLM(config).float().eval()
    ours = {"lm_head.weight": trunk.output.weight, "model.embed_tokens.weight": trunk.embed, "model.norm.weight": trunk.head.norm,
            "model.hc_head.hc_fn": trunk.head.fn, "model.hc_head.hc_base": trunk.head.base, "model.hc_head.hc_scale": trunk.head.scale}
    for i, l in enumerate(trunk.layers):
        p, a, e = f"model.layers.{i}.", l.attn, l.experts
        ours.update({p + "input_layernorm.weight": l.attn_norm, p + "post_attention_layernorm.weight": l.ffn_norm})
        for n, h in (("attn_hc", l.hyper_attn), ("ffn_hc", l.hyper_ffn)):
            ours.update({f"{p}{n}.fn": h.fn, f"{p}{n}.base": h.base, f"{p}{n}.scale": h.scale})
        q = p + "self_attn."
        ours.update({q + "q_a_proj.weight": a.q_a.weight, q + "q_a_norm.weight": a.q_norm, q + "q_norm.weight": a.q_norm, q + "q_b_proj.weight": a.q_b.weight, q + "kv_proj.weight": a.kv.weight,
                     q + "kv_norm.weight": a.kv_norm, q + "o_a_proj.weight": a.o_a.flatten(0, 1), q + "o_b_proj.weight": a.o_b.weight, q + "sinks": a.sinks})

        def compressor(c, at):
            ours.update({at + "kv_proj.weight": c.kv.weight, at + "gate_proj.weight": c.gate.weight, at + "position_bias": c.ape, at + "kv_norm.weight": c.norm})
        if a.ratio:
            compressor(a.compress, q + "compressor.")
        if a.ratio == 4:
            compressor(a.indexer.compress, q + "compressor.indexer.")
            ours.update({q + "compressor.indexer.q_b_proj.weight": a.indexer.q_b.weight, q + "compressor.indexer.weights_proj.weight": a.indexer.proj.weight,
                         q + "compressor.indexer.scorer.weights_proj.weight": a.indexer.proj.weight})
        m = p + "mlp."
        ours.update({m + "gate.weight": e.router.weight, m + "experts.gate_up_proj": torch.cat((e.gate, e.up), 1), m + "experts.down_proj": e.down,
                     m + "shared_experts.gate_proj.weight": e.shared_gate.weight, m + "shared_experts.up_proj.weight": e.shared_up.weight,
                     m + "shared_experts.down_proj.weight": e.shared_down.weight})
        ours[m + ("gate.tid2eid" if e.hashed else "gate.e_score_correction_bias")] = e.table if e.hashed else e.bias
    state = model.state_dict()
    missing = [k for k in state if k not in ours and "inv_freq" not in k]
    if missing:
        raise RuntimeError(f"no weights for {missing[:12]}")
    with torch.no_grad():
        for k, v in state.items():
            if k in ours:
                v.copy_(ours[k].detach().reshape(v.shape))
    model.load_state_dict(state)
    return model


def write_oracle(path, s, trunk, mtp, tok, out):
    """out: log function. Uses the public implementation; without it, our own (then the file's first bytes say OWN!)."""
    public = None
    try:
        public = public_model(s, trunk)
    except Exception as e:
        out(f"public implementation not usable: {type(e).__name__}: {e}")
    body, n, worst = b"", 0, 0.0
    for ids in prompts(tok, 20):
        t = torch.tensor(ids)[None]
        with torch.no_grad():
            own, _ = trunk(t, exact_index=True)
            want = public(input_ids=t).logits if public else own
            h, _ = trunk.streams(t, exact_index=True)
            draft = mtp(h[:, :-1], t[:, 1:], trunk)
        worst = max(worst, (own - want).abs().max().item())
        pos = [int(len(ids) * share) - 1 for share in (0.25, 0.5, 1)]
        dpos = pos[1:2]
        body += struct.pack("<I", len(ids)) + np.array(ids, "<i4").tobytes()
        body += struct.pack(f"<I{len(pos)}I", len(pos), *pos) + want[0, pos].numpy().astype("<f4").tobytes()
        body += struct.pack(f"<I{len(dpos)}I", len(dpos), *dpos) + draft[0, dpos].numpy().astype("<f4").tobytes()
        n += 1
    out(f"{n} prompts; own against {'public' if public else 'own'} implementation: max {worst:.2e}")
    head = (b"SLOR" if public else b"OWN!") + struct.pack("<I", n)
    with open(path, "wb") as f:
        f.write(head + body)


def main(checkpoint, out_gguf, out_oracle):
    begin = time.time()
    out = lambda text: print(f"[{time.time() - begin:5.1f}] {text}", flush=True)
    data = torch.load(checkpoint, map_location="cpu", **({"weights_only": False} if torch.__version__ >= "2" else {}))
    s = Shape(**{**data["shape"].__dict__, "dtype": torch.float32})
    tok = Tokenizer(f"{HERE}/tokenizer.json")
    assert tok.size == s.vocab
    trunk, mtp = Trunk(s).eval(), Mtp(s).eval()
    trunk.load_state_dict(data["trunk"])
    mtp.load_state_dict(data["mtp"])
    gguf.write(out_gguf + ".part", metadata(s, tok), file_tensors(trunk, mtp))
    os.replace(out_gguf + ".part", out_gguf)
    out(f"{out_gguf}: {os.path.getsize(out_gguf)} bytes")
    _, tensors = gguf.read(out_gguf)
    errors = []
    for name, p, t in list(gguf.trunk_names(trunk)) + list(gguf.mtp_names(mtp)):
        x = p.detach().float().numpy().ravel()
        d = tensors[name].astype(np.float32).ravel() - x
        errors.append((float(np.linalg.norm(d) / (np.linalg.norm(x) + 1e-9)), name))
    out(f"largest relative errors of quantising: {sorted(errors)[-3:]}")
    gguf.load_into(gguf.trunk_names(trunk), tensors)
    gguf.load_into(gguf.mtp_names(mtp), tensors)
    write_oracle(out_oracle, s, trunk, mtp, tok, out)
    out("written")


if __name__ == "__main__":
    main(*sys.argv[1:4])
