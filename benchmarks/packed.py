"""Decoding and reading from packed weights beside llama.cpp, on the same files, by turns.

    python benchmarks/packed.py --llama FOLDER [--models q4_1,q4_0,q8_0,gemma3] [--threads 1,2] [--only decode,...]

FOLDER holds llama.cpp's libraries for this machine (libllama.v0.4.0.so and its backends; npm's package
@node-llama-cpp/linux-x64 3.21.1 has them). SmolLM2 comes in Q4_1 as it is packaged, in Q4_0 and Q8_0 written by the
`gguf` package from that, Gemma 3 270M in Q4_K_M. Workers take turns, one short run each, the first round warms up:

    decode    a token after 100, every probability collected, over llama.cpp's, which picks the largest logit
    long      the same after 4,000, which both have read before
    prefill   512 tokens of each file, over llama.cpp's time for the Q8_0 file of the same model
    adapter   a token with an adapter of rank 8 on every product, its numbers drawn, over one without
    batch     a step of eight answers side by side over a step of one, ours alone; with activations of 8 bits, too
    mlx-lm    a token of mlx-lm, float32 weights, the same BLAS with our products of one row, over ours (SmolLM2)
    kl        with --text FILE: how far the packed distribution is from that of the same weights in float32, over the
              file's first 4,000 tokens, in nats a token, and how often the most likely token is another

Figures: ratios of lower quartiles by the clock, and by processor time, which is what counts on a busy machine with one
thread. One JSON line at the end.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.decode import prompt, quartiles
from benchmarks.peers import export

WHAT = ("decode", "long", "prefill", "adapter", "batch", "mlx-lm", "kl")
LIMITS = {"q4_1": 0.65, "q8_0": 0.8, "q4_0": 1.1, "gemma3": 1.0}  # of a token, over llama.cpp's
SAME_MODEL = {"gemma3": "gemma3-q8_0"}  # the file whose prefill is the measure; q8_0 for the others
CONTEXT, LONG, PROMPT = 100, 4000, 512
SIXTEEN = 16  # bits of the activations of what is drawn
BATCHES = (8, SIXTEEN), (8, 8), (1, 8)  # answers, and bits of activations
VOCABULARY = 49_152  # tokens of which prompts are, at most
Clock = tuple[float, float]  # by the wall, of the processor
Run = Callable[..., dict[str, Any]]


def now() -> Clock:
    return time.perf_counter(), time.process_time()


def between(times: Sequence[Clock]) -> list[Clock]:
    return [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(times)]


# --- workers: a line {"context", "tokens", ...} in, {"prefill", "steps"} out -----------------------------------------


def likely(path: str) -> Run:
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.events import Emitted
    from likely.engine.decode.session import Session
    from likely.engine.sampling.trace.step import SamplingConfig
    from likely.engine.train.attach.stack import Stack
    from likely.engine.weights.sources.checkpoint import load

    checkpoint = load(path)
    sessions = {SIXTEEN: Session(checkpoint)}
    session = sessions[SIXTEEN]
    stack = Stack(session)
    checkpoint.tokenizer.eos = frozenset()
    ids = prompt(LONG, min(session.model.config.vocab_size, VOCABULARY))

    def run(
        context: int, tokens: int, *, read: bool = False, answers: int = 0, adapter: str = "", bits: int = SIXTEEN
    ) -> dict[str, Any]:
        """`answers` are drawn, by default one is picked greedily."""
        if bits not in sessions:
            sessions[bits] = Session(checkpoint.with_activations(bits))
        session = sessions[bits]
        if adapter and not stack.attached:
            stack.add(adapter)
        for shown in stack.attached:
            stack.weigh(shown.name, float(bool(adapter)))
        if not read:
            session.forget()
        times = [now()]
        for event in session.generate(
            ids[:context], RunControl(SamplingConfig(greedy=not answers)), n=max(1, answers), max_tokens=tokens
        ):
            if isinstance(event, Emitted) and event.branch == 0:
                times.append(now())  # noqa: PERF401 - a clock is read as it comes
        return {"prefill": between(times)[0], "steps": between(times)[1:]}

    return run


def mlx_lm(path: str) -> Run:
    from likely.metal import blas

    blas.load()
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.utils import load_model

    mx.disable_compile()
    model, _ = load_model(Path(path))

    def run(context: int, tokens: int) -> dict[str, Any]:
        times = [now()]
        for _token, _ in generate_step(mx.array(prompt(context)), model, max_tokens=tokens):
            times.append(now())
        return {"prefill": between(times)[0], "steps": between(times)[1:]}

    return run


class _ModelParams(ctypes.Structure):
    """`llama_model_params` of llama.h, as it is in the libraries named above."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("devices", "overrides")),
        *((name, ctypes.c_int32) for name in ("gpu_layers", "split", "load_mode", "lazy_mode", "main_gpu")),
        *((name, ctypes.c_void_p) for name in ("tensor_split", "progress", "progress_data", "kv_overrides")),
        *((f"flag{i}", ctypes.c_bool) for i in range(6)),
    )


class _ContextParams(ctypes.Structure):
    """`llama_context_params` of llama.h."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("context", "batch", "ubatch", "seqs", "rs_seqs", "outputs", "a_seq")),
        *((name, ctypes.c_int32) for name in ("threads", "threads_batch")),
        *((f"type{i}", ctypes.c_int32) for i in range(5)),
        *((f"rope{i}", ctypes.c_float) for i in range(5)),
        ("yarn_context", ctypes.c_uint32),
        ("defrag", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("eval", "eval_data")),
        *((name, ctypes.c_int32) for name in ("type_k", "type_v")),
        *((name, ctypes.c_void_p) for name in ("abort", "abort_data")),
        *((name, ctypes.c_bool) for name in ("embeddings", "offload", "no_perf", "op_offload", "swa_full", "unified")),
        ("samplers", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
        ("other", ctypes.c_void_p),
    )


class _Batch(ctypes.Structure):
    """`llama_batch` of llama.h."""

    _fields_ = (
        ("n", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("token", "embd", "pos", "counts", "seqs", "logits")),
    )


def llama(path: str, folder: Path, threads: int) -> Run:
    import numpy as np

    pointer, number = ctypes.c_void_p, ctypes.c_int32
    ctypes.CDLL(str(folder / "libggml-base.so"), ctypes.RTLD_GLOBAL)
    ggml = ctypes.CDLL(str(next(folder.glob("libggml.v*.so"))), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(next(folder.glob("libllama.v*.so"))), ctypes.RTLD_GLOBAL)

    def function(name: str, result: Any, *arguments: Any, of: ctypes.CDLL = library) -> Any:
        bound = getattr(of, name)
        bound.restype, bound.argtypes = result, arguments
        return bound

    callback = ctypes.CFUNCTYPE(None, number, ctypes.c_char_p, pointer)
    quiet = callback(lambda level, text, data: None)
    function("llama_log_set", None, callback, pointer)(quiet, None)
    function("ggml_backend_load_all_from_path", None, ctypes.c_char_p, of=ggml)(str(folder).encode())
    function("llama_backend_init", None)()
    settings = function("llama_model_default_params", _ModelParams)()
    settings.gpu_layers = 0
    model = function("llama_model_load_from_file", pointer, ctypes.c_char_p, _ModelParams)(path.encode(), settings)
    how = function("llama_context_default_params", _ContextParams)()
    if (how.context, how.batch, how.ubatch, how.no_perf) != (512, 2048, 512, True):
        raise SystemExit("these libraries are of another llama.h")
    how.context, how.threads, how.threads_batch, how.swa_full = LONG + 256, threads, threads, True
    context = function("llama_init_from_model", pointer, pointer, _ContextParams)(model, how)
    if not model or not context:
        raise SystemExit(f"llama.cpp does not open {path}")
    vocabulary = function("llama_vocab_n_tokens", number, pointer)(
        function("llama_model_get_vocab", pointer, pointer)(model)
    )
    one = function("llama_batch_get_one", _Batch, pointer, number)
    decode = function("llama_decode", number, pointer, _Batch)
    logits = function("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), pointer, number)
    memory = function("llama_get_memory", pointer, pointer)(context)
    clear = function("llama_memory_clear", None, pointer, ctypes.c_bool)
    remove = function("llama_memory_seq_rm", ctypes.c_bool, pointer, number, number, number)

    def feed(ids: Sequence[int]) -> int:
        held = (number * len(ids))(*ids)
        if decode(context, one(ctypes.cast(held, pointer), len(ids))):
            raise SystemExit("llama_decode failed")
        return int(np.ctypeslib.as_array(logits(context, -1), (vocabulary,)).argmax())

    have = 0

    def run(context: int, tokens: int, *, read: bool = False) -> dict[str, Any]:
        nonlocal have
        ids = prompt(context, min(vocabulary, VOCABULARY))
        if read and have == context:
            remove(memory, 0, context - 1, -1)
            ids = ids[-1:]
        else:
            clear(memory, True)
        times = [now()]
        for first in range(0, max(0, len(ids) - 1), 2048):
            token = feed(ids[first : first + 2048])
        if len(ids) == 1:
            token = feed(ids)
        have = context
        times.append(now())
        for _ in range(tokens - 1):
            token = feed([token])
            times.append(now())
        return {"prefill": between(times)[0], "steps": between(times)[1:]}

    return run


def work(name: str, path: str, folder: Path, threads: int) -> None:
    run = llama(path, folder, threads) if name == "llama" else likely(path) if name == "likely" else mlx_lm(path)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)


# --- turns -----------------------------------------------------------------------------------------------------------


class Worker:
    """A process that answers runs."""

    def __init__(self, name: str, path: Path, folder: Path | None, threads: int) -> None:
        command = [sys.executable, __file__, "--worker", name, "--file", str(path), "--threads", str(threads)]
        command += ["--llama", str(folder)] if folder else []
        environment = os.environ | {"OPENBLAS_NUM_THREADS": str(threads)}
        root = Path(__file__).parent.parent
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root, env=environment)
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{name} does not begin on {path}")

    def run(self, **options: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(options) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@contextmanager
def workers(*kinds: tuple[str, Path], folder: Path, threads: int) -> Iterator[list[Worker]]:
    opened = [Worker(name, path, folder, threads) for name, path in kinds]
    try:
        yield opened
    finally:
        for worker in opened:
            worker.process.terminate()
            worker.process.wait()


def ratios(ours: Sequence[Clock], theirs: Sequence[Clock]) -> dict[str, float]:
    """Lower quartiles: milliseconds of ours by the clock, and ours over theirs by the clock and by the processor."""
    wall, spent = ([quartiles([clock[i] for clock in times])[0] for times in (ours, theirs)] for i in (0, 1))
    return {
        "ms": round(1e3 * wall[0], 2),
        "clock": round(wall[0] / wall[1], 3),
        "processor": round(spent[0] / spent[1], 3),
    }


def by_turns(
    one: Callable[[], Sequence[Clock]], other: Callable[[], Sequence[Clock]], rounds: int
) -> tuple[list[Clock], list[Clock]]:
    clocks: tuple[list[Clock], list[Clock]] = [], []
    for round_ in range(rounds + 1):
        for run, times in zip((one, other), clocks, strict=True):
            got = run()
            times += got if round_ else []
    return clocks


def steps(worker: Worker, tokens: int, **options: Any) -> Callable[[], Sequence[Clock]]:
    return lambda: [(a, b) for a, b in worker.run(tokens=tokens, **options)["steps"]]


def reading(worker: Worker) -> Callable[[], Sequence[Clock]]:
    return lambda: [tuple(worker.run(context=PROMPT, tokens=1)["prefill"])]


def divergence(path: Path, text: Path, count: int = 4000, chunk: int = 64) -> dict[str, float]:
    """KL(float32 || packed) a token, and the share of tokens whose most likely successor differs."""
    import numpy as np

    from likely.engine.base import arrays
    from likely.engine.weights.sources.checkpoint import load
    from likely.metal import mx
    from likely.models.native_path.native import NativeModel

    checkpoint = load(str(path))
    assert isinstance(checkpoint.model, NativeModel)
    model = checkpoint.model.drawing
    ids = checkpoint.tokenizer.encode(text.read_text()[: 16 * count], bos=True)[:count]
    caches, sums, other = (model.make_cache(count), model.graph.make_cache(count)), 0.0, 0
    for at in range(0, len(ids), chunk):
        tokens = mx.array([ids[at : at + chunk]])
        both = [np.array(m(tokens, c))[0] for m, c in zip((model, model.graph), caches, strict=True)]
        ours, exact = (arrays.logprobs(x, np, exact=True) for x in both)
        sums += float(arrays.kl(exact, ours, np).sum())
        other += int((both[0].argmax(-1) != both[1].argmax(-1)).sum())
    return {"nats": float(f"{sums / len(ids):.2g}"), "other_top": round(other / len(ids), 5), "tokens": len(ids)}


def adapted(path: Path, folder: Path) -> Path:
    """An adapter's directory for the model of a file."""
    from likely.engine.weights.adapters import adapters, lora, sites
    from likely.engine.weights.adapters.config import configure
    from likely.engine.weights.sources.checkpoint import load
    from likely.metal import mx

    model, config, out = sites.trainable(load(str(path)).model), configure({}), folder / f"{path.stem}-adapter"
    chosen = sites.choose(sites.sites(model), config.layers, config.modules, model.config.layers)
    adapter = lora.create(chosen, rank=8, scale=1.0)
    keys = enumerate(adapter.parameters().items())
    adapter.set({name: a + 0.01 * mx.random.normal(a.shape, key=mx.random.key(i)) for i, (name, a) in keys})
    adapters.save(out, adapter, model, {"kind": "lora"})
    return out


def written(folder: Path, source: Path, kind: str) -> Path:
    """The model of a GGUF file with its matrices in `kind`, written by the gguf package."""
    import gguf
    import numpy as np

    path = folder / f"{source.stem}-{kind}.gguf"
    if path.exists():
        return path
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(path.with_suffix(".part"), architecture)
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub)
    to = gguf.GGMLQuantizationType[kind.upper()]
    for tensor in reader.tensors:
        values = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)
        values = values.reshape([int(n) for n in reversed(tensor.shape)])
        if len(tensor.shape) < 2:
            writer.add_tensor(tensor.name, values)
        else:
            own = gguf.GGMLQuantizationType.Q8_0 if tensor.name == "token_embd.weight" else to
            writer.add_tensor(tensor.name, gguf.quantize(values, own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".part").rename(path)
    return path


def file_of(model: str, folder: Path) -> Path:
    from likely.engine.weights.sources import store

    base, _, kind = model.rpartition("-")
    if model in ("q4_0", "q8_0"):
        base, kind = "smollm2", model
    name = base or {"q4_1": "smollm2"}.get(model, model)
    path = store.pull(name).path
    return written(folder, path, kind) if base else path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", type=Path, help="the folder of llama.cpp's libraries")
    parser.add_argument("--models", default=",".join(LIMITS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--only", default=",".join(WHAT))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "likely-bench-packed")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--worker")
    parser.add_argument("--file")
    options = parser.parse_args()
    if options.worker:
        return work(options.worker, options.file, options.llama, int(options.threads))
    options.folder.mkdir(parents=True, exist_ok=True)
    rounds, tokens, folder = options.rounds, options.tokens, options.llama
    figures: dict[str, Any] = {}

    def tell(name: str, own: dict[str, float]) -> None:
        figures[name] = own
        print(f"{name:<28} {json.dumps(own)}", flush=True)

    chosen = options.only.split(",")
    for threads in map(int, options.threads.split(",")):
        for model in options.models.split(","):
            path, at = file_of(model, options.folder), f"{model}, {threads} thread{'s' * (threads > 1)}"
            if {"decode", "long"} & {*chosen}:
                with workers(("likely", path), ("llama", path), folder=folder, threads=threads) as (ours, theirs):
                    for what, context in (("decode", CONTEXT), ("long", LONG)):
                        if what not in chosen:
                            continue
                        how = {"context": context, "read": what == "long"}
                        runs = [steps(w, tokens, **how) for w in (ours, theirs)]
                        tell(f"{what} {at}", ratios(*by_turns(runs[0], runs[1], rounds)))
            if "prefill" in chosen:
                measure = file_of(SAME_MODEL.get(model, "q8_0"), options.folder)
                with workers(("likely", path), ("llama", measure), folder=folder, threads=threads) as (ours, theirs):
                    tell(f"prefill {at}", ratios(*by_turns(reading(ours), reading(theirs), rounds)))
            if "adapter" in chosen:
                adapter = str(adapted(path, options.folder))
                with workers(("likely", path), folder=folder, threads=threads) as (ours,):
                    on, without = (steps(ours, tokens, context=CONTEXT, adapter=a) for a in (adapter, ""))
                    tell(f"adapter {at}", ratios(*by_turns(on, without, rounds)))
            if "batch" in chosen:
                with workers(("likely", path), folder=folder, threads=threads) as (ours,):
                    one = steps(ours, tokens, context=CONTEXT, answers=1)
                    for answers, bits in BATCHES[: 1 if model == "q8_0" else None]:  # 8 bits are for narrower codes
                        many = steps(ours, tokens, context=CONTEXT, answers=answers, bits=bits)
                        tell(f"batch {at}, {answers} by {bits} bits", ratios(*by_turns(many, one, rounds)))
            if "kl" in chosen and options.text and threads == 1:
                tell(f"kl {at}", divergence(path, options.text))
            if "mlx-lm" in chosen and model == "q4_1":
                peer = export(options.folder, "float32")
                with workers(("mlx-lm", peer), ("likely", path), folder=folder, threads=threads) as (theirs, ours):
                    runs = [steps(w, tokens, context=CONTEXT) for w in (theirs, ours)]
                    tell(f"mlx-lm {at}", ratios(*by_turns(runs[0], runs[1], rounds)))
    print(json.dumps({"benchmark": "packed", "limits": LIMITS, **figures}))


if __name__ == "__main__":
    main()
