"""Asks llama.cpp's own quantizer, in dry runs, which type each tensor of a synthetic model gets.

usage: oracle.py LIBLLAMA OUT.json [SEED COUNT]

LIBLLAMA is libllama.so of the PyPI package llama-cpp-python 0.3.36. Without SEED it makes plans.json,
which tests/recipe_plans.rs reads; with SEED, COUNT random models, for which the ignored test there
looks in the file that the variable RECIPE_PLANS names.
"""
import ctypes as C, json, os, random, re, struct, sys, tempfile
from itertools import groupby

lib = C.CDLL(sys.argv[1])
class TT(C.Structure): _fields_ = [("pattern", C.c_char_p), ("type", C.c_int)]
class IM(C.Structure): _fields_ = [("name", C.c_char_p), ("data", C.POINTER(C.c_float)), ("size", C.c_size_t)]
class QP(C.Structure):
    _fields_ = [("nthread", C.c_int32), ("ftype", C.c_int), ("out", C.c_int), ("emb", C.c_int)] + \
        [(n, C.c_bool) for n in ("allow_requantize", "quantize_output_tensor", "only_copy", "pure", "keep_split", "dry_run")] + \
        [("imatrix", C.POINTER(IM)), ("kv", C.c_void_p), ("tt", C.POINTER(TT)), ("prune", C.POINTER(C.c_int32)), ("max_buf", C.c_size_t)]
lib.llama_model_quantize_default_params.restype = QP
lib.llama_model_quantize.argtypes = [C.c_char_p, C.c_char_p, C.POINTER(QP)]
lib.llama_model_quantize.restype = C.c_uint32
LOG = []
CB = C.CFUNCTYPE(None, C.c_int, C.c_char_p, C.c_void_p)
cb = CB(lambda level, text, _: LOG.append(text.decode("utf8", "replace")))
lib.llama_log_set(cb, None)
lib.llama_backend_init()

FT = dict(F32=0,F16=1,BF16=32,Q4_0=2,Q4_1=3,Q5_0=8,Q5_1=9,Q8_0=7,Q2_K=10,Q2_K_S=21,Q3_K_S=11,Q3_K_M=12,Q3_K_L=13,
  Q4_K_S=14,Q4_K_M=15,Q5_K_S=16,Q5_K_M=17,Q6_K=18,IQ1_S=24,IQ1_M=31,IQ2_XXS=19,IQ2_XS=20,IQ2_S=28,IQ2_M=29,IQ3_XXS=23,
  IQ3_XS=22,IQ3_S=26,IQ3_M=27,IQ4_NL=25,IQ4_XS=30,TQ1_0=36,TQ2_0=37,MXFP4_MOE=38,Q1_0=40,Q2_0=41)
TY = dict(F32=0,F16=1,Q4_0=2,Q4_1=3,Q5_0=6,Q5_1=7,Q8_0=8,Q2_K=10,Q3_K=11,Q4_K=12,Q5_K=13,Q6_K=14,IQ2_XXS=16,IQ2_XS=17,
  IQ3_XXS=18,IQ1_S=19,IQ4_NL=20,IQ3_S=21,IQ2_S=22,IQ4_XS=23,IQ1_M=29,BF16=30,TQ1_0=34,TQ2_0=35,MXFP4=39,Q1_0=41,Q2_0=42)

def s(b): b = b.encode(); return struct.pack("<Q", len(b)) + b
def write_gguf(path, kv, tensors):
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(kv))
    for k, v in kv.items():
        head += s(k)
        if isinstance(v, str): head += struct.pack("<I", 8) + s(v)
        elif isinstance(v, float): head += struct.pack("<If", 6, v)
        elif isinstance(v, list): head += struct.pack("<IIQ", 9, 4, len(v)) + struct.pack(f"<{len(v)}I", *v)
        else: head += struct.pack("<II", 4, v)
    off = 0
    for n, shape in tensors:
        head += s(n) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", 0, off)
        size = 4
        for d in shape: size *= d
        off += (size + 31) // 32 * 32
    head += b"\0" * (-len(head) % 32)
    with open(path, "wb") as f:
        f.write(head); f.truncate(len(head) + off)

def run(path, opts):
    p = lib.llama_model_quantize_default_params()
    assert p.max_buf == 8 << 30 and p.quantize_output_tensor
    p.dry_run, p.ftype, p.nthread = True, FT[opts["file"]], 1
    p.pure, p.quantize_output_tensor = opts.get("pure", False), not opts.get("leave", False)
    if "out" in opts: p.out = TY[opts["out"]]
    if "emb" in opts: p.emb = TY[opts["emb"]]
    if opts.get("imatrix"):
        one = (C.c_float * 1)(1.0)
        p.imatrix = (IM * 2)(IM(b"x", one, 1), IM(None, None, 0))
    ov = [TT(pat.encode(), TY[t]) for pat, t in opts.get("overrides", [])]
    if ov: p.tt = (TT * (len(ov) + 1))(*ov, TT(None, 0))
    if "prune" in opts: p.prune = (C.c_int32 * (len(opts["prune"]) + 1))(*opts["prune"], -1)
    LOG.clear()
    rc = lib.llama_model_quantize(path.encode(), b"/nonexistent", C.byref(p))
    text = "".join(LOG)
    if rc: return None, text[-300:]
    return [(n, (t or "f32").upper()) for n, t in
        re.findall(r"^\[ *\d+/ *\d+\] (\S.*?) +- \[[^\[\]]*\], type = +f32, size = .*?MiB(?: -> .*?\((\w+)\))?$", text, re.M)], text

def rle(types):
    out = []
    for t, g in groupby(types):
        n = len(list(g)); out.append(t if n == 1 else f"{t}*{n}")
    return " ".join(out)

def case(name, arch, layers, heads, kv, experts, globals_, layer, runs, extra=None, layer_of=None):
    md = {"general.architecture": arch, f"{arch}.block_count": layers, f"{arch}.context_length": 64,
          f"{arch}.embedding_length": 256, f"{arch}.feed_forward_length": 256, f"{arch}.attention.head_count": heads,
          f"{arch}.attention.head_count_kv": kv, f"{arch}.attention.key_length": 64, f"{arch}.rope.dimension_count": 64,
          f"{arch}.attention.layer_norm_rms_epsilon": 1e-5, f"{arch}.attention.layer_norm_epsilon": 1e-5}
    if experts: md |= {f"{arch}.expert_count": experts, f"{arch}.expert_used_count": 1}
    md |= extra or {}
    tensors = [list(t) for t in globals_] + [[f"blk.{i}.{n}", sh] for i in range(layers) for n, sh in layer]
    results = []
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "m.gguf"); write_gguf(path, md, tensors)
        for opts in runs:
            got, text = run(path, opts)
            r = dict(opts)
            if got is None: r["error"] = text.strip().splitlines()[-1][-120:]
            else:
                if "prune" not in opts: assert len(got) == len(tensors), (name, opts, len(got), len(tensors), text[-500:])
                groups = {}
                for n, t in got: groups.setdefault(re.sub(r"^blk\.\d+\.", "", n), []).append(t)
                counts = {}
                for _, t in got: counts[t] = counts.get(t, 0) + 1
                rest = max(counts, key=counts.get)
                r["rest"] = rest
                # vectors are always F32: the test knows
                vectors = {n for n, sh in globals_ + layer if len(sh) == 1}
                r["types"] = {g: rle(ts) for g, ts in groups.items() if set(ts) != {rest} and not (g in vectors and set(ts) == {"F32"})}
            # one entry where an importance matrix makes no difference
            if results and r.get("imatrix") and results[-1] | {"imatrix": True} == r: results[-1]["imatrix"] = "either"
            else: results.append(r)
    md = {k: v for k, v in md.items() if not isinstance(v, float)}
    return {"name": name, "metadata": md, "globals": globals_, "layer": layer, "layers": layers, "runs": results}

W = [256, 4]
G = [["token_embd.weight", W], ["output_norm.weight", [256]], ["output.weight", W]]
TIED = G[:2]
ATT = [["attn_norm.weight", [256]], ["attn_q.weight", W], ["attn_k.weight", W], ["attn_v.weight", W], ["attn_output.weight", W]]
DENSE = ATT + [["ffn_gate.weight", W], ["ffn_up.weight", W], ["ffn_down.weight", W]]
MOE = ATT + [["ffn_gate_inp.weight", W]] + [[f"ffn_{p}_exps.weight", [256, 4, 2]] for p in ("gate", "up", "down")]
SPLIT = ATT + [["ffn_gate_inp.weight", W]] + [[f"ffn_{p}.{e}.weight", W] for p in ("gate", "up", "down") for e in range(2)]
SHARED = MOE + [["ffn_gate_inp_shexp.weight", W]] + [[f"ffn_{p}_shexp.weight", W] for p in ("gate", "up", "down")]
FUSED = [["attn_norm.weight", [256]], ["attn_qkv.weight", W], ["attn_output.weight", W], ["ffn_up.weight", W], ["ffn_down.weight", W]]
def rows(layer, n): return [[name, [n] + sh[1:]] for name, sh in layer]
EVERY = [{"file": f} | ({"imatrix": True} if i else {}) for f in FT for i in (0, 1)]
def some(*files, **opts): return [{"file": f, **opts} for f in files]

def named():
    yield case("dense 32, 4 heads per kv", "llama", 32, 32, 8, 0, G, DENSE, EVERY)
    yield case("dense 33, tied, 2 heads per kv", "llama", 33, 32, 16, 0, TIED, DENSE, EVERY)
    yield case("70B", "llama", 80, 64, 8, 0, G, DENSE, EVERY)
    yield case("65B is not 70B", "llama", 80, 64, 64, 0, G, DENSE, some("Q2_K", "Q3_K_S", "Q4_K_S", "Q4_K_M", "IQ3_S"))
    yield case("qwen2 72B", "qwen2", 80, 64, 8, 0, G, DENSE, some("Q2_K", "Q3_K_S", "Q4_K_S", "Q4_K_M", "IQ3_S"))
    yield case("80 layers, one predicts further tokens", "qwen2", 81, 64, 8, 0, G, DENSE, some("Q4_K_M", "Q3_K_S"), {"qwen2.nextn_predict_layers": 1})
    yield case("eight experts", "llama", 32, 32, 8, 8, G, MOE, EVERY)
    yield case("eight experts, split, tied, 3 heads per kv", "llama", 16, 24, 8, 8, TIED, SPLIT, EVERY)
    yield case("80 layers of eight experts", "llama", 80, 64, 8, 8, G, MOE, some("Q4_K_S", "Q3_K_S"))
    yield case("four experts and shared ones", "qwen2moe", 24, 16, 16, 4, G, SHARED, EVERY)
    yield case("falcon", "falcon", 32, 32, 1, 0, G, FUSED, EVERY)
    yield case("falcon, no fused qkv", "falcon", 60, 32, 8, 0, TIED, DENSE, EVERY)
    yield case("fused, with positions", "gpt2", 12, 12, 12, 0, TIED + [["position_embd.weight", W], ["token_types.weight", W]], FUSED, EVERY)
    yield case("latent attention names", "llama", 9, 8, 8, 0, G, ATT + [["attn_kv_b.weight", W], ["attn_k_b.weight", [256, 4, 2]], ["attn_q_a.weight", W], ["ffn_down.weight", W], ["ssm_conv1d.weight", W], ["time_mix_w1.weight", W], ["odd.bias", W]], EVERY)
    yield case("heads by layer", "llama", 3, [8, 4, 2], [2, 4, 2], 0, G, DENSE, some("Q2_K", "IQ4_XS", "IQ2_XXS", imatrix=True))
    for n in (288, 320, 100, 128, 64):
        yield case(f"rows of {n}", "llama", 10, 8, 2, 0, rows(G, n), rows(DENSE, n), EVERY)
    def latent(arch, **more):
        keys = {"attention.key_length_mla": 64, "attention.value_length_mla": 64, "attention.kv_lora_rank": 64,
            "attention.q_lora_rank": 64, "ssm.conv_kernel": 4, "kda.head_dim": 64, "kda.gate_lower_bound": -5.0,
            "expert_feed_forward_length": 256, "expert_shared_count": 1, "leading_dense_block_count": 1, "expert_gating_func": 2} | more
        return {f"{arch}.{k.replace('__', '.')}": v for k, v in keys.items()}
    yield case("only experts are stacked experts", "bailingmoe3", 6, 8, 8, 16, G, MOE + [["attn_k_b.weight", [256, 4, 2]]], EVERY, latent("bailingmoe3"))
    yield case("projections that need eight bits", "glm5-next", 6, 8, 8, 16, G,
        MOE + [[n, W] for n in ("attn_q_a.weight", "attn_q_b.weight", "attn_k_b.weight", "nextn.eh_proj.weight", "hc_attn_fn.weight", "indexer.proj.weight", "ssm_beta.weight", "ssm_g_b.weight", "ssm_out.weight")],
        EVERY, latent("glm5-next", attention__indexer__head_count=4, attention__indexer__key_length=64, attention__indexer__top_k=64,
        attention__indexer__kpool=4, hyper_connection__count=4, hyper_connection__sinkhorn_iterations=2, hyper_connection__epsilon=1e-5))
    odd = DENSE[:-1] + [["ffn_down.weight", [320, 4]]]
    yield case("options", "llama", 8, 8, 2, 0, G, odd,
        some("Q4_K_M", "IQ2_S", "IQ2_M", "Q3_K_L", "MXFP4_MOE", "Q8_0", "F16", pure=True, imatrix=True)
        + some("Q4_K_M", "F16", "Q8_0", leave=True)
        + some("Q4_K_M", "F16", "BF16", "Q2_K", out="Q8_0") + some("Q4_K_M", "F16", emb="Q5_K")
        + some("Q4_K_M", "Q4_0", out="F16", emb="Q3_K", pure=True)
        + some("Q4_K_M", "Q5_K_M", "Q3_K_M", overrides=[["attn_v", "Q8_0"], [r"blk\.[02]\.ffn_(up|down)", "Q6_K"], ["attn_v", "Q4_0"]])
        + some("Q4_K_M", overrides=[["ffn_down", "F16"], ["token_embd", "Q4_0"], ["output.weight", "Q5_0"]], pure=True)
        + some("Q4_K_M", "Q3_K_M", prune=[0, 3, 4]) + some("Q4_K_M", prune=[7]))
    yield case("options, tied", "llama", 8, 8, 2, 0, TIED + [["per_layer_token_embd.weight", [288, 4]]], DENSE,
        some("Q4_K_M", "MXFP4_MOE", "F16", out="Q5_K") + some("Q4_K_M", out="Q5_K", pure=True)
        + some("Q4_K_M", out="Q5_K", emb="Q8_0") + some("Q4_K_M", emb="F16")
        + some("Q4_K_M", "Q2_K", emb="Q8_0", overrides=[["per_layer", "Q5_K"]])
        + some("Q4_K_M", "Q2_K", overrides=[["token_embd", "Q5_K"]])
        + some("Q4_K_M", leave=True))

ODD = ("mtp.ffn_up.weight", "blk.99.ffn_down.weight", "blk.-1.ffn_gate.weight", "blk.+1.attn_v.weight", "blk. 2.attn_k.weight", "blk.4294967297.attn_v.weight")

def fuzz(seed, count):
    for i in range(count):
        r = random.Random(f"{seed}.{i}")
        arch = r.choice(["llama", "llama", "qwen2", "falcon", "qwen2moe", "gpt2", "olmo2", "deci"])
        layers = r.choice([1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 80, 81])
        heads = r.choice([1, 4, 8, 24, 32]); kv = r.choice([1, 2, heads, 8, 0])
        experts = r.choice([0, 0, 0, 1, 2, 3, 4, 8, 8, 16, 128])
        names = ["attn_q", "attn_k", "attn_v", "attn_qkv", "attn_kv_b", "attn_output", "attn_q_a", "attn_q_b", "attn_k_b", "cross_attn_v",
                 "ffn_up", "ffn_gate", "ffn_down", "ffn_up_exps", "ffn_gate_exps", "ffn_down_exps", "ffn_down_shexp", "ffn_gate_inp", "ffn_gate_inp_shexp",
                 "ffn_down.0", "ffn_down.1", "ssm_in", "ssm_conv1d", "altup_x", "attn_q_norm", "nextn.eh_proj", "indexer.k_proj", "exp_probs_b"]
        def shape():
            n = r.choice([256]*8 + [512, 768, 288, 320, 32, 64, 96, 128, 100, 384])
            return r.choice([[n, 4]] * 5 + [[n, 4, 2], [n, 1, 3], [n], [n, 1]])
        layer = [[n + r.choice([".weight"] * 9 + [".bias"]), shape()] for n in r.sample(names, r.randint(1, 14))]
        # odd names are rare: most of them make the reference give up on a mixture of experts
        chance = lambda n: 0.03 if n in ODD else 0.5
        g = [[n, shape()] for n in ("token_embd.weight", "output.weight", "output_norm.weight", "rope_freqs.weight", "position_embd.weight", "cls.output.weight", "per_layer_token_embd.weight", "output.bias") + ODD if r.random() < chance(n)]
        runs = []
        ty = list(TY)
        for f in FT:
            o = {"file": f}
            if r.random() < .5: o["imatrix"] = True
            if r.random() < .1: o["pure"] = True
            if r.random() < .1: o["leave"] = True
            if r.random() < .15: o["out"] = r.choice(["F16", "F32", "BF16"] + ([] if any(sh[0] % 256 for n, sh in g) else ty))
            if r.random() < .15: o["emb"] = r.choice(["F16", "F32", "BF16"] + ([] if any(sh[0] % 256 for n, sh in g) else ty))
            if r.random() < .2 and f not in ("F32", "F16", "BF16"):
                o["overrides"] = [[r.choice(["attn", "ffn_down", r"blk\.1", "token", "output", "exps", "weight$", r"^blk\.\d\."]), r.choice(ty)] for _ in range(r.randint(1, 3))]
            if r.random() < .1 and layers > 3 and not any(n in ODD for n, _ in g): o["prune"] = sorted(r.sample(range(layers), r.randint(1, layers - 1)))
            runs.append(o)
        extra = {f"{arch}.nextn_predict_layers": 1} if layers > 1 and r.random() < .1 else None
        yield case(f"random {seed}.{i}", arch, layers, heads, kv, experts, g, layer, runs, extra)

cases = list(fuzz(sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else named())
with open(sys.argv[2], "w") as f:
    f.write("[\n" + ",\n".join(
        "{" + ",\n ".join(f"{json.dumps(k)}: " + (("[\n  " + ",\n  ".join(json.dumps(r) for r in v) + "\n ]") if k == "runs" else json.dumps(v)) for k, v in c.items()) + "}" for c in cases) + "\n]\n")
print(len(cases), "cases", sum(len(c["runs"]) for c in cases), "runs", sum("error" in r for c in cases for r in c["runs"]), "errors", os.path.getsize(sys.argv[2]))
from collections import Counter
print(Counter(re.sub(r"[\d.]+", "#", r["error"]) for c in cases for r in c["runs"] if "error" in r).most_common(12))
