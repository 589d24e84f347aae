"""GGUF files for training tools: a small reader, a writer, the quantisers, and the mapping between our modules and tensor names."""
import struct

import numpy as np
import torch

F32, F16, Q8_0, Q4_K, I32 = 0, 1, 8, 12, 26
ALIGN = 32


# ---- reading (F32, F16, Q8_0, Q4_K, I32) ----

def read(path):
    data = np.fromfile(path, dtype=np.uint8)
    at = 4
    raw = data.tobytes()

    def take(fmt):
        nonlocal at
        v = struct.unpack_from("<" + fmt, raw, at)
        at += struct.calcsize("<" + fmt)
        return v[0]

    def string():
        nonlocal at
        n = take("Q")
        at += n
        return raw[at - n:at].decode("utf-8", "replace")

    scalar = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def value(t):
        if t == 8:
            return string()
        if t == 9:
            e, n = take("I"), take("Q")
            return [value(e) for _ in range(n)]
        return take(scalar[t])

    take("I")
    n_tensor, n_kv = take("Q"), take("Q")
    kv = {}
    for _ in range(n_kv):
        k = string()
        kv[k] = value(take("I"))
    infos = []
    for _ in range(n_tensor):
        name = string()
        ne = [take("Q") for _ in range(take("I"))]
        infos.append((name, ne, take("I"), take("Q")))
    align = kv.get("general.alignment", ALIGN)
    start = -(-at // align) * align
    tensors = {}
    for name, ne, t, off in infos:
        n = int(np.prod(ne))
        tensors[name] = dequant(data[start + off:], t, n).reshape(ne[::-1])
    return kv, tensors


def dequant(b, t, n):
    if t == F32:
        return b[:4 * n].view(np.float32).copy()
    if t == F16:
        return b[:2 * n].view(np.float16).astype(np.float32)
    if t == I32:
        return b[:4 * n].view(np.int32).copy()
    if t == Q8_0:
        r = b[:n // 32 * 34].reshape(-1, 34)
        return (r[:, :2].copy().view(np.float16).astype(np.float32) * r[:, 2:].view(np.int8)).reshape(-1)
    if t == Q4_K:
        r = b[:n // 256 * 144].reshape(-1, 144)
        d, dmin = (r[:, i:i + 2].copy().view(np.float16).astype(np.float32) for i in (0, 2))
        sc = r[:, 4:16].astype(np.int32)
        s, m = np.zeros((len(r), 8), np.int32), np.zeros((len(r), 8), np.int32)
        s[:, :4], m[:, :4] = sc[:, :4] & 63, sc[:, 4:8] & 63
        s[:, 4:] = (sc[:, 8:] & 15) | (sc[:, :4] >> 6 << 4)
        m[:, 4:] = (sc[:, 8:] >> 4) | (sc[:, 4:8] >> 6 << 4)
        q = r[:, 16:].reshape(-1, 4, 32)
        q = np.stack((q & 15, q >> 4), 2).reshape(-1, 8, 32).astype(np.float32)
        return (d[:, :, None] * s[:, :, None] * q - dmin[:, :, None] * m[:, :, None]).astype(np.float32).reshape(-1)
    raise ValueError(f"tensor type {t}")


# ---- quantising ----

def quant_q8_0(x):
    x = x.reshape(-1, 32)
    d = (np.abs(x).max(1, keepdims=True) / 127).astype(np.float16)
    scale = d.astype(np.float32)
    q = np.where(scale > 0, np.rint(x / np.where(scale > 0, scale, 1)), 0).clip(-127, 127).astype(np.int8)
    return np.concatenate((d.view(np.uint8), q.view(np.uint8)), 1).tobytes()


def fit_q4(x):
    """Scale and minimum (both >= 0) of sub-blocks x [n][32] for codes 0..15: y = s * q - m, by alternating least squares."""
    lo = np.minimum(x.min(1), 0)
    s = (x.max(1) - lo) / 15
    best_s, best_m, best_err = s.copy(), -lo, np.full(len(x), np.inf, np.float32)
    for shrink in (1.0, 0.95, 0.9, 0.85):
        cs, cm = s * shrink, -lo * shrink
        for _ in range(4):
            q = np.rint((x + cm[:, None]) / np.where(cs > 0, cs, 1)[:, None]).clip(0, 15)
            qm, xm = q.mean(1), x.mean(1)
            var = (q * q).mean(1) - qm * qm
            cov = (q * x).mean(1) - qm * xm
            ns = np.where(var > 1e-12, cov / np.where(var > 1e-12, var, 1), cs)
            nm = qm * ns - xm
            zero = (q * x).sum(1) / np.maximum((q * q).sum(1), 1e-12)
            ns, nm = np.where(nm < 0, zero, ns), np.maximum(nm, 0)
            cs, cm = np.maximum(ns, 0), nm
            q = np.rint((x + cm[:, None]) / np.where(cs > 0, cs, 1)[:, None]).clip(0, 15)
            err = ((cs[:, None] * q - cm[:, None] - x) ** 2).sum(1)
            better = err < best_err
            best_s, best_m, best_err = np.where(better, cs, best_s), np.where(better, cm, best_m), np.where(better, err, best_err)
    return best_s, best_m


def quant_q4_k(x):
    x = x.reshape(-1, 8, 32).astype(np.float32)
    s, m = fit_q4(x.reshape(-1, 32))
    s, m = s.reshape(-1, 8), m.reshape(-1, 8)
    d = (s.max(1, keepdims=True) / 63).astype(np.float16)
    dmin = (m.max(1, keepdims=True) / 63).astype(np.float16)
    df, mf = d.astype(np.float32), dmin.astype(np.float32)
    si = np.rint(s / np.where(df > 0, df, 1)).clip(0, 63).astype(np.int32)
    mi = np.rint(m / np.where(mf > 0, mf, 1)).clip(0, 63).astype(np.int32)
    scale, low = (df * si)[..., None], (mf * mi)[..., None]
    q = np.where(scale > 0, np.rint((x + low) / np.where(scale > 0, scale, 1)), 0).clip(0, 15).astype(np.uint8)
    sc = np.zeros((len(x), 12), np.uint8)
    sc[:, :4] = si[:, :4] | (si[:, 4:] >> 4 << 6)
    sc[:, 4:8] = mi[:, :4] | (mi[:, 4:] >> 4 << 6)
    sc[:, 8:] = (si[:, 4:] & 15) | ((mi[:, 4:] & 15) << 4)
    qs = (q[:, 0::2] | q[:, 1::2] << 4).reshape(-1, 128)
    return np.concatenate((d.view(np.uint8), dmin.view(np.uint8), sc, qs), 1).tobytes()


PACK = {F32: lambda x: x.astype("<f4").tobytes(), F16: lambda x: x.astype("<f2").tobytes(), I32: lambda x: x.astype("<i4").tobytes(),
        Q8_0: quant_q8_0, Q4_K: quant_q4_k}


# ---- writing ----

def write(path, kv, tensors):
    """kv: name -> (type letter, value); tensors: name -> (ggml type, array in [out][in] order)."""
    def text(v):
        b = v.encode()
        return struct.pack("<Q", len(b)) + b
    codes = {"u": (4, "I"), "i": (5, "i"), "f": (6, "f"), "b": (7, "?")}

    def pack(kind, v):
        if kind == "s":
            return struct.pack("<I", 8) + text(v)
        if kind in ("ai", "af", "as"):
            t = {"ai": 5, "af": 6, "as": 8}[kind]
            body = b"".join(text(x) for x in v) if kind == "as" else struct.pack(f"<{len(v)}{'i' if kind == 'ai' else 'f'}", *v)
            return struct.pack("<IIQ", 9, t, len(v)) + body
        t, f = codes[kind]
        return struct.pack("<I" + f, t, v)

    head = b"".join(text(k) + pack(*v) for k, v in kv.items())
    directory, blobs, offset = b"", [], 0
    for name, (t, x) in tensors.items():
        blob = PACK[t](np.ascontiguousarray(x))
        blob += bytes(-len(blob) % ALIGN)
        ne = x.shape[::-1]
        directory += text(name) + struct.pack("<I", len(ne)) + struct.pack(f"<{len(ne)}Q", *ne) + struct.pack("<IQ", t, offset)
        blobs.append(blob)
        offset += len(blob)
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(kv)) + head + directory
    out += bytes(-len(out) % ALIGN)
    with open(path, "wb") as f:
        f.write(out)
        for blob in blobs:
            f.write(blob)


# ---- names ----

def layer_names(layer, prefix):
    """(tensor name, parameter or buffer, wanted type) of one layer."""
    a, e = layer.attn, layer.experts
    for half, h in (("attn", layer.hyper_attn), ("ffn", layer.hyper_ffn)):
        yield f"{prefix}hc_{half}_fn.weight", h.fn, F16
        yield f"{prefix}hc_{half}_base.weight", h.base, F32
        yield f"{prefix}hc_{half}_scale.weight", h.scale, F32
    yield f"{prefix}attn_norm.weight", layer.attn_norm, F32
    yield f"{prefix}ffn_norm.weight", layer.ffn_norm, F32
    yield f"{prefix}attn_q_a.weight", a.q_a.weight, Q8_0
    yield f"{prefix}attn_q_a_norm.weight", a.q_norm, F32
    yield f"{prefix}attn_q_b.weight", a.q_b.weight, Q8_0
    yield f"{prefix}attn_kv.weight", a.kv.weight, Q8_0
    yield f"{prefix}attn_kv_a_norm.weight", a.kv_norm, F32
    yield f"{prefix}attn_sinks.weight", a.sinks, F32
    yield f"{prefix}attn_output_a.weight", a.o_a, Q8_0
    yield f"{prefix}attn_output_b.weight", a.o_b.weight, Q8_0

    def compressor(c, stem):
        yield f"{prefix}{stem}_kv.weight", c.kv.weight, F16
        yield f"{prefix}{stem}_gate.weight", c.gate.weight, F16
        yield f"{prefix}{stem}_ape.weight", c.ape, F16
        yield f"{prefix}{stem}_norm.weight", c.norm, F32
    if a.ratio:
        yield from compressor(a.compress, "attn_compressor")
    if a.ratio == 4:
        yield f"{prefix}indexer.attn_q_b.weight", a.indexer.q_b.weight, Q8_0
        yield f"{prefix}indexer.proj.weight", a.indexer.proj.weight, F16
        yield from compressor(a.indexer.compress, "indexer_compressor")
    yield f"{prefix}ffn_gate_inp.weight", e.router.weight, F16
    if e.hashed:
        yield f"{prefix}ffn_gate_tid2eid.weight", e.table, I32
    else:
        yield f"{prefix}exp_probs_b.bias", e.bias, F32
    yield f"{prefix}ffn_gate_exps.weight", e.gate, Q4_K
    yield f"{prefix}ffn_up_exps.weight", e.up, Q4_K
    yield f"{prefix}ffn_down_exps.weight", e.down, Q4_K
    yield f"{prefix}ffn_gate_shexp.weight", e.shared_gate.weight, Q8_0
    yield f"{prefix}ffn_up_shexp.weight", e.shared_up.weight, Q8_0
    yield f"{prefix}ffn_down_shexp.weight", e.shared_down.weight, Q8_0


def head_names(h, fn, base, scale, norm):
    yield fn, h.fn, F16
    yield base, h.base, F32
    yield scale, h.scale, F32
    yield norm, h.norm, F32


def trunk_names(trunk):
    yield "token_embd.weight", trunk.embed, Q8_0
    yield from head_names(trunk.head, "output_hc_fn.weight", "output_hc_base.weight", "output_hc_scale.weight", "output_norm.weight")
    yield "output.weight", trunk.output.weight, Q8_0
    for i, layer in enumerate(trunk.layers):
        yield from layer_names(layer, f"blk.{i}.")


def mtp_names(mtp):
    yield "mtp.0.e_proj.weight", mtp.e_proj.weight, Q8_0
    yield "mtp.0.h_proj.weight", mtp.h_proj.weight, Q8_0
    yield "mtp.0.enorm.weight", mtp.e_norm, F32
    yield "mtp.0.hnorm.weight", mtp.h_norm, F32
    yield from head_names(mtp.head, "mtp.0.hc_head_fn.weight", "mtp.0.hc_head_base.weight", "mtp.0.hc_head_scale.weight", "mtp.0.norm.weight")
    yield from layer_names(mtp.layer, "mtp.0.")


def load_into(names, tensors):
    """Copies tensors of a file into module parameters; every name must be there with the right number of values."""
    with torch.no_grad():
        for name, p, _ in names:
            p.copy_(torch.from_numpy(np.asarray(tensors[name], dtype=np.float32 if p.dtype.is_floating_point else np.int64)).reshape(p.shape))
